// Package nsm proves that the clients and endpoints of Network Service Mesh connect
// through the agent unchanged: they are made of NSM's own chains (sdk 1.15.0) and run as
// processes in their own network namespaces; the agent is the built program.
package nsm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.patchbay.dev/tests/nsm/workload"
)

func TestMain(m *testing.M) {
	if ran, err := workload.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	} else if ran {
		os.Exit(0)
	}
	code := m.Run()
	if built := builtBinary; built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// builtBinary is what binary has built, to be removed at the end.
var builtBinary string

// binary gives the patchbay program: PATCHBAY_BINARY, or one built from the product's
// source, once per run.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("PATCHBAY_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "pbn-")
	if err != nil {
		return "", err
	}
	builtBinary = filepath.Join(dir, "patchbay")
	build := exec.Command("go", "build", "-o", builtBinary, "./agent/cmd/patchbay")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return builtBinary, nil
})

// start begins a story: it runs beside the others, needs root, and says in the summary of
// the tests what real part it ran against.
func start(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	t.Parallel()
	t.Attr("patchbay-part", "NSM sdk "+sdkVersion(t)+" (client and endpoint chains)")
}

// sdkVersion is the version of NSM's sdk that go.mod asks for, without the v. (A test
// binary has no build information of its modules.)
func sdkVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "github.com/networkservicemesh/sdk v")
	version, _, _ := strings.Cut(rest, "\n")
	return version
}
