// Package tests holds what needs several rooms at once: a real agent process, real
// network namespaces, real etcd. Tests of several nodes, which mostly wait for them, run
// when all others are done, one on each processor.
package tests

import (
	"os"
	"testing"

	"go.patchbay.dev/tests/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(stranger) != "" {
		os.Exit(actAsStranger())
	}
	code := m.Run()
	lab.Cleanup()
	lab.ReturnHugepages()
	os.Exit(code)
}
