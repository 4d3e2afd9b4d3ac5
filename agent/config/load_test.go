package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"go.patchbay.dev/models"
)

// load reads a file, an environment and a command line as `patchbay run` does.
func load(t *testing.T, yaml string, env map[string]string, args ...string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "patchbay.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, file)
}

func TestFlagsWinOverEnvironmentOverFileOverDefaults(t *testing.T) {
	const file = "log: {level: warn}\n"
	env := map[string]string{"PATCHBAY_LOG_LEVEL": "error"}
	for _, c := range []struct {
		name, yaml string
		env        map[string]string
		args       []string
		want       string
	}{
		{"default", "", nil, nil, "info"},
		{"file", file, nil, nil, "warn"},
		{"environment", file, env, nil, "error"},
		{"flag", file, env, []string{"--log-level=debug"}, "debug"},
		{"an empty variable counts as unset", file, map[string]string{"PATCHBAY_LOG_LEVEL": ""}, nil, "warn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.yaml, c.env, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Log.Level != c.want {
				t.Errorf("log.level = %q, want %q", got.Log.Level, c.want)
			}
		})
	}
}

// sample is a value for each key that differs from its default.
func sample(k Key, file string) string {
	switch {
	case strings.Contains(k.Name, "tls."):
		return file
	case k.Name == "grpc.listen":
		return "tcp://127.0.0.1:9640"
	case k.Name == "grpc.advertise":
		return "tcp://192.0.2.1:9640"
	case k.Name == "node.address6":
		return "2001:db8::1"
	case k.Name == "node.mtu":
		return "9000"
	case k.Name == "etcd.listen", k.Name == "etcd.endpoints":
		return "unix:///tmp/x.sock"
	case k.Name == "http.listen":
		return "127.0.0.1:1"
	case k.Name == "dataplane":
		return "kernel"
	case k.Name == "log.level":
		return "debug"
	case k.Name == "log.format":
		return "json"
	case k.Name == "mechanisms.prefer":
		return "MEMIF"
	case k.Name == "node.address":
		return "192.0.2.1"
	case k.Name == "sriov.pools":
		return "[{name: radio, pf: ens1f0, count: 4, services: [a, b], trust: true}]"
	case k.Name == "sriov.kubelet":
		return "/tmp/x"
	case k.Default == false:
		return "true"
	case k.Name == "vpp.rx_mode":
		return "polling"
	case k.Name == "vpp.workers":
		return "1"
	case k.Name == "vpp.ring_size", k.Name == "vpp.buffer_size":
		return "512"
	case k.Name == "mechanisms.path":
		return "direct"
	case isInt(k.Default):
		return "7"
	case strings.HasPrefix(fmt.Sprint(k.Default), "/"):
		return "/tmp/x"
	}
	return "x1"
}

func isInt(v any) bool { _, ok := v.(int); return ok }

func TestEveryKeyIsReadFromEverySource(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(pem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var yaml strings.Builder
	env := map[string]string{}
	var args []string
	keys := slices.DeleteFunc(Keys(), func(k Key) bool { return k.Name == "grpc.tls.spiffe" }) // it excludes the files
	for _, k := range keys {
		value := sample(k, pem)
		if _, list := k.Default.([]string); list {
			fmt.Fprintf(&yaml, "%s: [%q]\n", k.Name, value)
		} else if _, list := k.Default.([]int); list {
			fmt.Fprintf(&yaml, "%s: [%s]\n", k.Name, value)
		} else if _, b := k.Default.(bool); b || isInt(k.Default) || k.Name == "sriov.pools" {
			fmt.Fprintf(&yaml, "%s: %s\n", k.Name, value)
		} else {
			fmt.Fprintf(&yaml, "%s: %q\n", k.Name, value)
		}
		env[k.Env()] = value
		if k.Flag() != "" {
			args = append(args, "--"+k.Flag()+"="+value)
		}
	}
	check := func(t *testing.T, c *Config, err error, secrets bool) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if k.secret() && !secrets {
				continue
			}
			var got string
			switch f := k.field(c).(type) {
			case *string:
				got = *f
			case *Secret:
				got = string(*f)
			case *bool:
				got = fmt.Sprint(*f)
			case *int:
				got = fmt.Sprint(*f)
			case *[]string:
				got = strings.Join(*f, " ")
			case *[]int:
				got = strings.Trim(fmt.Sprint(*f), "[]")
			case *[]Pool:
				want := []Pool{{Name: "radio", PF: "ens1f0", Count: 4, Services: []string{"a", "b"}, Trust: true}}
				if !reflect.DeepEqual(*f, want) {
					t.Errorf("%s = %+v, want %+v", k.Name, *f, want)
				}
				continue
			}
			if want := sample(k, pem); got != want {
				t.Errorf("%s = %q, want %q", k.Name, got, want)
			}
		}
	}
	t.Run("file", func(t *testing.T) {
		c, err := load(t, yaml.String(), nil)
		check(t, c, err, true)
	})
	t.Run("environment", func(t *testing.T) {
		c, err := load(t, "", env)
		check(t, c, err, true)
	})
	t.Run("flags", func(t *testing.T) {
		c, err := load(t, "", nil, args...)
		check(t, c, err, false)
	})
}

func TestWhatCannotBeIsRefusedByName(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		env        map[string]string
		args       []string
		want       string // in the error
	}{
		{"unknown key", "etcd: {datadir: /x}", nil, nil, "etcd.datadir: no such key"},
		{"unknown key with a likely one", "tls: {cert: /x}", nil, nil, "tls.cert: no such key; remove it or write grpc.tls.cert"},
		{"unknown group", "bridge: {}\nvlan: {a: 1}", nil, nil, "vlan.a: no such key"},
		{"below a value", "dataplane: {kind: vpp}", nil, nil, "dataplane.kind: no such key; remove it, or write dataplane with a value behind it"},
		{"value for a group", "etcd: /x", nil, nil, "etcd: is a group of keys"},
		{"not YAML", "node: [", nil, nil, "configuration file"},
		{"the same key twice", "log: {level: info}\nlog: {level: warn}", nil, nil, "already"},
		{"number for text", "node: {name: 12}", nil, nil, "node.name: 12 is not text; write it in quotes"},
		{"text for truth", "etcd: {insecure: maybe}", nil, nil, "etcd.insecure: maybe is not true or false"},
		{"text for a list", "etcd: {endpoints: 'unix:///x'}", nil, nil, "etcd.endpoints: unix:///x is not a list"},
		{"number in a list", "mechanisms: {prefer: [1]}", nil, nil, "mechanisms.prefer: 1 is not text"},
		{"list for text", "log: {level: [info]}", nil, nil, "log.level: [info] is not text"},
		{"group for text", "log: {level: {a: b}}", nil, nil, "log.level.a: no such key"},
		{"unknown variable", "", map[string]string{"PATCHBAY_LOGLEVEL": "info"}, nil, "PATCHBAY_LOGLEVEL: no such key"},
		{"no truth in a variable", "", map[string]string{"PATCHBAY_ETCD_INSECURE": "maybe"}, nil, `etcd.insecure: "maybe" is not true or false`},
		{"node name with a slash", "node: {name: a/b}", nil, nil, `node.name: "a/b": use 1–63 of`},
		{"node name with capitals", "", nil, []string{"--node-name=Node"}, `node.name: "Node"`},
		{"address that is a name", "node: {address: host}", nil, nil, `node.address: "host": use an IP address`},
		{"address that nobody reaches", "node: {address: '0.0.0.0'}", nil, nil, `node.address: "0.0.0.0"`},
		{"dataplane", "dataplane: ovs", nil, nil, `dataplane: "ovs": use auto, vpp, kernel`},
		{"log level", "", nil, []string{"--log-level=loud"}, `log.level: "loud": use debug`},
		{"log format", "log: {format: xml}", nil, nil, `log.format: "xml"`},
		{"relative path", "vpp: {run_dir: run}", nil, nil, `vpp.run_dir: "run": use an absolute path`},
		{"no listener", "grpc: {listen: []}", nil, nil, "grpc.listen: is empty"},
		{"listener twice", "grpc: {listen: ['unix:///a', 'unix:///a']}", nil, nil, `grpc.listen[1]: "unix:///a" is there twice`},
		{"listener of another kind", "grpc: {listen: ['unix:///a', 'http://b']}", nil, nil, `grpc.listen[1]: "http://b": use unix`},
		{"relative socket", "grpc: {listen: ['unix://a']}", nil, nil, `grpc.listen[0]: "unix://a": use an absolute path`},
		{"socket path too long", "grpc: {listen: ['unix:///" + strings.Repeat("a", 107) + "']}", nil, nil, "at most 107 bytes, this one has 108"},
		{"port out of range", "http: {listen: ':65536'}", nil, nil, `http.listen: ":65536": use host:port`},
		{"TCP without TLS", "grpc: {listen: ['tcp://:9640']}", nil, nil, "grpc.listen: tcp://:9640 without TLS"},
		{"a tunnel address of the other family", "node: {address6: 192.0.2.1}", nil, nil, `node.address6: "192.0.2.1": use an IPv6 address`},
		{"an underlay that carries no IPv6", "node: {mtu: 1000}", nil, nil, "node.mtu: 1000 is out of range; use 1280–65535"},
		{"a lease that etcd does not grant", "node: {lease: 1}", nil, nil, "node.lease: 1: use 2 to 600"},
		{"advertised without a listener", "grpc: {advertise: 'tcp://192.0.2.1:9640'}", nil, nil, "grpc.advertise: is set, but grpc.listen has no tcp://"},
		{"advertised everywhere", "grpc: {advertise: 'tcp://:9640'}", nil, nil, `grpc.advertise: "tcp://:9640": use tcp://host:port`},
		{"a wildcard that nobody can reach", "grpc: {listen: ['tcp://:9640'], tls: {spiffe: 'unix:///run/spire.sock'}}", nil, nil, "grpc.advertise: tcp://:9640 does not say where other nodes reach it"},
		{"TLS from two sources", "grpc: {tls: {ca: /x, spiffe: 'unix:///run/spire.sock'}}", nil, nil, "grpc.tls.spiffe: is set beside"},
		{"certificate without key", "grpc: {tls: {cert: /x}}", nil, nil, "grpc.tls.key: is missing"},
		{"key without certificate", "etcd: {tls: {key: /x}}", nil, nil, "etcd.tls.cert: is missing"},
		{"certificate that is not there", "etcd: {tls: {ca: /does/not/exist}}", nil, nil, "etcd.tls.ca: stat /does/not/exist: no such file"},
		{"endpoint without port", "etcd: {endpoints: ['https://etcd']}", nil, nil, `etcd.endpoints[0]: "https://etcd": use`},
		{"mechanism in small letters", "mechanisms: {prefer: [memif]}", nil, nil, `mechanisms.prefer[0]: "memif": use mechanism types in capitals`},
		{"pools in a group", "sriov: {pools: {name: radio}}", nil, nil, "sriov.pools.name: no such key; remove it, or write sriov.pools as a list, one entry a line after a dash"},
		{"a Workload API that is only a path", "grpc: {tls: {spiffe: /run/spire.sock}}", nil, nil, `grpc.tls.spiffe: "/run/spire.sock": use an absolute path with three slashes`},
		{"pools as text in the file", "sriov: {pools: '[]'}", nil, nil, "sriov.pools: [] is not a list; write one pool after each dash"},
		{"a pool that is none", "sriov: {pools: [radio]}", nil, nil, "sriov.pools[0]: radio is not a pool; use the keys name, pf"},
		{"a pool's unknown key", "sriov: {pools: [{name: a}, {name: b, vf: '1'}]}", nil, nil, `sriov.pools[1]: unknown field "vf"; use the keys name, pf`},
		{"a vendor that YAML takes for a number", "sriov: {pools: [{name: a, vendor: 8086}]}", nil, nil, "sriov.pools[0].vendor: is a number, not text; write it in quotes"},
		{"a count in words", "sriov: {pools: [{name: a, count: four}]}", nil, nil, "sriov.pools[0].count: is a string, not a whole number"},
		{"a service for a list", "sriov: {pools: [{name: a, services: radio}]}", nil, nil, "sriov.pools[0].services: is a string, not a list; write [a, b]"},
		{"pools in a variable that are no YAML", "", map[string]string{"PATCHBAY_SRIOV_POOLS": "[{"}, nil, `sriov.pools: "[{" is not YAML in one line`},
		{"pools in a flag that are no list", "", nil, []string{"--sriov-pools=radio"}, "sriov.pools: radio is not a list"},
		{"mechanism twice", "", map[string]string{"PATCHBAY_MECHANISMS_PREFER": "KERNEL, KERNEL"}, nil, "mechanisms.prefer[1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.yaml, c.env, c.args...)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	if _, err := os.Stat(DefaultFile); err == nil {
		t.Logf("%s exists here", DefaultFile)
	} else if _, err := Load(nil, ""); err != nil {
		t.Errorf("without the default file: %v", err)
	}
	if _, err := Load(nil, filepath.Join(t.TempDir(), "absent.yaml")); err == nil || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("a named file that is absent: %v", err)
	}
	if c, err := load(t, "etcd:\n  # data_dir: /x\nlog:\n  level:\n", nil); err != nil || c.Log.Level != "info" {
		t.Errorf("a file with keys commented out: %v, %+v", err, c)
	}
}

func TestNodeNameIsTheHostNameInSmallLetters(t *testing.T) {
	c, err := load(t, "", nil)
	host, _ := os.Hostname()
	if !models.ValidName(strings.ToLower(host)) {
		if err == nil {
			t.Errorf("host name %q was accepted", host)
		}
		return
	}
	if err != nil || c.Node.Name != strings.ToLower(host) {
		t.Errorf("node.name = %v, %v; want %s", c, err, strings.ToLower(host))
	}
}

func TestVariablesThatAreNotConfigurationAreLeftAlone(t *testing.T) {
	env := map[string]string{
		"PATCHBAY_TEST_X": "1", "PATCHBAY_SERVICE_HOST": "10.0.0.1", "PATCHBAY_PORT": "tcp://10.0.0.1:80",
		"PATCHBAY_WEB_SERVICE_PORT_HTTP": "80", "PATCHBAY_WEB_PORT_80_TCP_ADDR": "10.0.0.1",
	}
	for _, name := range notConfiguration {
		env[name] = "x"
	}
	if _, err := load(t, "", env); err != nil {
		t.Error(err)
	}
	for _, k := range Keys() {
		if slices.Contains(notConfiguration, k.Env()) || elsewhere.MatchString(k.Env()) {
			t.Errorf("%s is both configuration and not", k.Env())
		}
	}
}

func TestListenersCanBeTurnedOff(t *testing.T) {
	c, err := load(t, "etcd: {listen: ''}", map[string]string{"PATCHBAY_HTTP_LISTEN": "off"})
	if err != nil || c.HTTP.Listen != "" || c.Etcd.Listen != "" {
		t.Errorf("http.listen %+v, %v", c, err)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c, err := load(t, "etcd: {password: hunter2, username: root}", nil)
	if err != nil || c.Etcd.Password != "hunter2" {
		t.Fatal(c, err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "password", c.Etcd.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "password", c.Etcd.Password)
	fmt.Fprintf(&log, "%v %+v %#v %s", *c, *c, *c, c.Etcd.Password)
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("the password is in %s", log.String())
	}
	if _, err := load(t, "etcd: {password: 12345}", nil); err == nil || strings.Contains(err.Error(), "12345") {
		t.Errorf("error %v", err)
	}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	AddFlags(flags)
	if flags.Lookup("etcd-password") != nil {
		t.Error("the password has a flag")
	}
}

func TestMarkdownHasEveryKey(t *testing.T) {
	text := Markdown()
	for _, k := range Keys() {
		if !strings.Contains(text, "| `"+k.Name+"` |") || k.Help == "" {
			t.Errorf("%s is not in the table, or has no help", k.Name)
		}
	}
	if strings.Count(text, "\n") != len(Keys())+2 {
		t.Errorf("not one line a key:\n%s", text)
	}
}

func TestWhereOtherAgentsReachThisOne(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no listener for them", "", ""},
		{"the address it listens on", "grpc: {listen: ['tcp://192.0.2.7:9640']", "tcp://192.0.2.7:9640"},
		{"the tunnel address", "node: {address: 192.0.2.1}\ngrpc: {listen: ['unix:///a', 'tcp://:9640']", "tcp://192.0.2.1:9640"},
		{"the IPv6 tunnel address", "node: {address6: '2001:db8::1'}\ngrpc: {listen: ['tcp://[::]:9640']", "tcp://[2001:db8::1]:9640"},
		{"what is advertised", "grpc: {advertise: 'tcp://n1.example:1', listen: ['tcp://:9640']", "tcp://n1.example:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			yaml := c.yaml
			if yaml != "" {
				yaml += ", tls: {spiffe: 'unix:///run/spire.sock'}}"
			}
			got, err := load(t, yaml, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.GRPC.Advertise != c.want {
				t.Errorf("grpc.advertise = %q, want %q", got.GRPC.Advertise, c.want)
			}
		})
	}
}
