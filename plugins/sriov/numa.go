package sriov

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxProcessors is more than any machine has (CONFIG_NR_CPUS, arch/x86/Kconfig).
const maxProcessors = 8192

// numaOf is the NUMA node whose processors a process may run on; -1: those of several, or it cannot be told.
func (p *Plugin) numaOf(pid int) int {
	if pid == 0 {
		return -1
	}
	allowed := allowedTo(pid)
	nodes, _ := filepath.Glob(filepath.Join(p.sys.root, "devices/system/node/node[0-9]*")) // the pattern is right
	on := -1
	for _, node := range nodes {
		list, err := os.ReadFile(filepath.Join(node, "cpulist"))
		if err != nil {
			return -1
		}
		if !overlap(processors(string(list)), allowed) {
			continue
		}
		if on >= 0 {
			return -1
		}
		on, _ = strconv.Atoi(strings.TrimPrefix(filepath.Base(node), "node"))
	}
	return on
}

// allowedTo are the processors that a process may run on; none: it is not known.
func allowedTo(pid int) map[int]bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return processors(list)
		}
	}
	return nil
}

// processors are those of a list of the kernel's; a node may have none.
func processors(list string) map[int]bool {
	all, _ := numbers(strings.TrimSpace(list), maxProcessors)
	return all
}

func overlap(a, b map[int]bool) bool {
	for n := range a {
		if b[n] {
			return true
		}
	}
	return false
}
