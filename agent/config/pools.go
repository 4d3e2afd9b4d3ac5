package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/viper"
)

// SRIOV is which virtual functions of network cards the node gives to workloads, and
// whether kubelet counts them.
type SRIOV struct {
	Pools   []Pool
	Sysfs   string // where sysfs is mounted
	RunDir  string // what is noted there does not outlive a boot
	Kubelet string // where kubelet looks for device plugins; empty: it does not count them
	Tokens  string // file in which it is kept what kubelet gave away
}

// Pool is a pool of virtual functions, field by field as plugins/sriov explains it.
type Pool struct {
	Name       string
	PF         string
	PCI        string
	Vendor     string
	Device     string
	VFs        string
	Count      int
	Services   []string
	Capability string
	VLAN       int
	Rate       int
	Trust      bool
	NoSpoof    bool
}

const poolKeys = "name, pf, pci, vendor, device, vfs, count, services, capability, vlan, rate, trust, nospoof"

// pools reads a list of pools: the file's, or text in YAML's flow form, [{name: …, pf: …}],
// from the environment or the command line.
func pools(value any) ([]Pool, error) {
	if text, ok := value.(string); ok {
		v := viper.New()
		v.SetConfigType("yaml")
		if err := v.ReadConfig(strings.NewReader("pools: " + text)); err != nil {
			return nil, fmt.Errorf(": %q is not YAML in one line, like [{name: example.com/radio, pf: ens1f0}]", text)
		}
		value = v.Get("pools")
	}
	if p, ok := value.([]Pool); ok || value == nil {
		return p, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf(": %v is not a list; write one pool after each dash", value)
	}
	var out []Pool
	for i, e := range list {
		p, err := pool(e)
		if err != nil {
			return nil, fmt.Errorf("[%d]%w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// pool reads one, whose keys JSON finds in any case.
func pool(value any) (p Pool, err error) {
	if _, ok := value.(map[string]any); !ok {
		return p, fmt.Errorf(": %v is not a pool; use the keys %s", value, poolKeys)
	}
	data, err := json.Marshal(value)
	if err != nil {
		return p, fmt.Errorf(": %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err = d.Decode(&p)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return p, fmt.Errorf(".%s: is a %s, not %s", strings.ToLower(wrong.Field), wrong.Value, wanted(wrong.Type.Kind().String()))
	case err != nil:
		return p, fmt.Errorf(": %s; use the keys %s", strings.TrimPrefix(err.Error(), "json: "), poolKeys)
	}
	return p, nil
}

// wanted names a kind of Go's for who writes YAML.
func wanted(kind string) string {
	switch kind {
	case "string":
		return "text; write it in quotes"
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	}
	return "a list; write [a, b]"
}
