package agent

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASocketReplacesOnlyOneThatNobodyListensTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	first, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), path+": another agent answers there") {
		t.Errorf("beside one that is alive: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	first.Close()
	second, err := listenUnix(path)
	if err != nil {
		t.Fatalf("after one that was killed: %v", err)
	}
	second.Close()

	if err := os.WriteFile(path, []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), path+" is there and is no socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "dear" {
		t.Errorf("the file was touched: %q, %v", got, err)
	}
}
