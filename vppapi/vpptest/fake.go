package vpptest

import (
	"os"
	"path/filepath"
	"testing"

	"go.patchbay.dev/vppapi/vppfake"
)

// Fake starts a stand-in for VPP that ends with the test. Its socket lies alone in a folder
// in /tmp: the name of a socket may be 107 bytes long, and that of t.TempDir is longer.
func Fake(t testing.TB, options ...vppfake.Option) *vppfake.VPP {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v, err := vppfake.Start(filepath.Join(dir, "api.sock"), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}
