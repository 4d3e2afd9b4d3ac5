package lab

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const nrHugepages = "/proc/sys/vm/nr_hugepages"

// before is how many hugepages the machine had.
var before = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile(nrHugepages)
	return strings.TrimSpace(string(b)), err
})

// NeedHugepages sees to memory that a vhost-user peer can share, 256 pages of 2 MiB. The
// test is skipped where the machine gives none; ReturnHugepages gives them back.
func NeedHugepages(t testing.TB) {
	t.Helper()
	had, err := before()
	if err != nil {
		t.Skip("needs hugepages: this kernel has none")
	}
	if n, err := strconv.Atoi(had); err == nil && n >= 256 {
		return
	}
	if err := os.WriteFile(nrHugepages, []byte("256"), 0o644); err != nil {
		t.Skipf("needs hugepages: %v", err)
	}
	now, err := os.ReadFile(nrHugepages)
	if n, e := strconv.Atoi(strings.TrimSpace(string(now))); err != nil || e != nil || n < 128 {
		t.Skipf("needs 128 hugepages, the machine gives %s", now)
	}
}

// ReturnHugepages sets the number of hugepages to what it was; at the end of TestMain.
func ReturnHugepages() {
	if had, err := before(); err == nil {
		if err := os.WriteFile(nrHugepages, []byte(had), 0o644); err != nil {
			os.Stderr.WriteString("hugepages: " + err.Error() + "\n")
		}
	}
}
