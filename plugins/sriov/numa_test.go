package sriov

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.patchbay.dev/plugins/sriov/sriovtest"
)

func TestTheNUMANodeOfAProcess(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []string // their processors
		want  int
	}{
		{"the only node", []string{"0-4095"}, 0},
		{"that of many processors", []string{"4000-8191", "0-3999"}, 1},
		{"one beside a node of memory only", []string{"\n", "0-3999"}, 1},
		{"every node has a processor for it", []string{"0-4095", "0-4095"}, -1},
		{"none is told of", nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sriovtest.New(t)
			for i, list := range c.nodes {
				dir := filepath.Join(m.Root, "devices/system/node", fmt.Sprint("node", i))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "cpulist"), []byte(list), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, m, radio)
			if got := p.numaOf(os.Getpid()); got != c.want {
				t.Errorf("node %d, want %d", got, c.want)
			}
			if got := p.numaOf(0); got != -1 {
				t.Errorf("of no process: node %d", got)
			}
		})
	}
}
