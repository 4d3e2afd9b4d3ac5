package lab

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// binary builds the patchbay program once per test run and gives its path.
// PATCHBAY_BINARY names one that is there already.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("PATCHBAY_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "patchbay-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "patchbay")
	out, err := exec.Command("go", "build", "-o", path, "go.patchbay.dev/agent/cmd/patchbay").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// versions of the real parts that the tests run against.
type versions struct{ etcd, kernel string }

var parts = sync.OnceValue(func() (v versions) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v.kernel = unix.ByteSliceToString(u.Release[:])
	}
	path, err := binary()
	if err != nil {
		return v
	}
	if info, err := buildinfo.ReadFile(path); err == nil {
		for _, d := range info.Deps {
			if d.Path == "go.etcd.io/etcd/server/v3" {
				v.etcd = strings.TrimPrefix(d.Version, "v")
			}
		}
	}
	return v
})

// Binary gives the path of the patchbay program, built from this source.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Cleanup removes what Binary built; call it at the end of TestMain.
func Cleanup() {
	if path, err := binary(); err == nil && os.Getenv("PATCHBAY_BINARY") == "" {
		os.RemoveAll(filepath.Dir(path))
	}
}
