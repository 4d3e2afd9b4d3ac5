package main

import (
	"strings"

	"go.patchbay.dev/models"
)

// parseLabels reads k=v of --label.
func parseLabels(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, l := range list {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, usage("label %q: use key=value", l)
		}
		if old, twice := out[k]; twice && old != v {
			return nil, usage("label %q: %s is %s already; give each key once", l, k, old)
		}
		out[k] = v
	}
	return out, nil
}

// parseTypes brings mechanism types into their form on the wire.
func parseTypes(list []string) ([]string, error) {
	var out []string
	for _, t := range list {
		t = strings.ToUpper(strings.TrimSpace(t))
		if t == "" {
			return nil, usage("mechanism: an entry is empty; name types such as KERNEL, separated by commas")
		}
		out = append(out, t)
	}
	return out, nil
}

// parsePayload checks a payload; empty is whatever the network service says.
func parsePayload(s string) (string, error) {
	s = strings.ToUpper(s)
	if s != "" && s != models.Ethernet && s != models.IP {
		return "", usage("payload %q: use %s or %s", s, models.Ethernet, models.IP)
	}
	return s, nil
}
