package linux

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.patchbay.dev/plugins/linux/nstest"
)

func TestNothingIsMissingForRootAndAskingMakesNothing(t *testing.T) {
	nstest.Need(t)
	n := newNamespaces(t)
	if missing := n.Missing(); missing != "" {
		t.Errorf("missing: %s", missing)
	}
	if n.Mutations() != 0 {
		t.Error("asking changed something")
	}
}

// A copy of this test runs as nobody.
func TestWithoutRightsItIsSaidWhatIsMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		n := newNamespaces(t)
		check(t, n.Start())
		if missing := n.Missing(); !strings.Contains(missing, "CAP_SYS_ADMIN") || !strings.Contains(missing, "root") {
			t.Errorf("missing: %q", missing)
		}
		return
	}
	program, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	copied := filepath.Join(t.TempDir(), "linux.test")
	check(t, os.WriteFile(copied, program, 0o755))
	check(t, os.Chmod(filepath.Dir(filepath.Dir(copied)), 0o755))
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStartAndCloseLogNothing(t *testing.T) {
	nstest.Need(t)
	var log bytes.Buffer
	n, err := New(Options{Instance: instance(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	check(t, err)
	check(t, n.Start())
	n.Presence(func(string, bool) {}).Watch("netns/" + nstest.New(t))
	check(t, n.Close())
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}
