package linux

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// modules have the kinds of devices, where they are not built into the kernel.
var modules = map[string]string{
	kindVXLAN: "vxlan", kindGENEVE: "geneve", kindWireGuard: "wireguard", kindSIT: "sit", kindIP6Tnl: "ip6_tunnel",
	kindBridge: "bridge", kindGRE: "ip_gre", kindGRETap: "ip_gre", kindIP6GRE: "ip6_gre", kindIP6GRETap: "ip6_gre",
}

// missingAge is for how long it is believed that a kind is missing.
const missingAge = 2 * time.Second

// support is what the kernel was seen to have.
type support struct {
	mu    sync.Mutex
	kinds map[string]seen
}

type seen struct {
	missing string
	at      time.Time
}

// Supports says what this kernel lacks for a kind of devices, as the rest of a sentence that
// begins "node n1"; empty: nothing. A module that the kernel loads by itself when it is
// needed is not lacking. It looks and loads none: some make interfaces in every namespace.
func (n *Namespaces) Supports(kind string) string {
	n.support.mu.Lock()
	defer n.support.mu.Unlock()
	if s, ok := n.support.kinds[kind]; ok && (s.missing == "" || time.Since(s.at) < missingAge) {
		return s.missing
	}
	missing := n.lacks(kind)
	if n.support.kinds == nil {
		n.support.kinds = map[string]seen{}
	}
	n.support.kinds[kind] = seen{missing, time.Now()}
	return missing
}

func (n *Namespaces) lacks(kind string) string {
	module := modules[kind]
	if module == "" {
		return fmt.Sprintf("makes no devices of kind %q", kind)
	}
	there, err := n.registered(kind)
	switch {
	case err != nil:
		return "cannot be asked for devices of kind " + kind + ": " + err.Error()
	case there || loadable(module):
		return ""
	}
	return fmt.Sprintf("needs the kernel module %s; load it with: modprobe %s", module, module)
}

// registered tells whether the kernel has a kind now. It then lists interfaces of that kind
// only, and else all of them; every namespace has lo.
func (n *Namespaces) registered(kind string) (bool, error) {
	there := true
	err := n.at(func(c *conn) error {
		_, err := dump(c, ofKind(kind, Own), func(body []byte) (none struct{}, _ bool) {
			if l, ok := parseLink(body); ok && l.Kind != kind {
				there = false
			}
			return none, false
		})
		return err
	})
	return there, err
}

// loadable tells whether the kernel would load a module by itself, as far as can be seen
// from here: a container may not have the machine's modules.
func loadable(module string) bool {
	if program, err := os.ReadFile("/proc/sys/kernel/modprobe"); err != nil || strings.TrimSpace(string(program)) == "" {
		return false
	}
	if off, err := os.ReadFile("/proc/sys/kernel/modules_disabled"); err != nil || strings.TrimSpace(string(off)) != "0" {
		return false
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	list, err := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.dep")
	return err == nil && hasModule(string(list), module)
}

// hasModule tells whether modules.dep has a module, see modules.dep(5): lines of a path and
// what it needs.
func hasModule(list, module string) bool {
	for line := range strings.Lines(list) {
		path, _, _ := strings.Cut(line, ":")
		name, _, isModule := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ".ko")
		if isModule && strings.ReplaceAll(name, "-", "_") == module {
			return true
		}
	}
	return false
}
