// Package config reads the agent's configuration: flags over PATCHBAY_* environment
// variables over a YAML file over defaults. Every key stands in one table with its
// default and its help; a key that is not in the table, or a value that cannot be, is an
// error that names the key in full and says what to write instead.
package config

import (
	"fmt"
	"log/slog"
	"strings"
)

// DefaultFile is read when no file is named; it need not exist.
const DefaultFile = "/etc/patchbay/patchbay.yaml"

// Config is the agent's configuration, complete and checked. Load makes one.
type Config struct {
	// Version is the program's own, for `patchbay version` and the metrics. It is no key:
	// the program sets it.
	Version string

	Node       Node
	Dataplane  string // auto, vpp or kernel
	GRPC       GRPC
	Etcd       Etcd
	VPP        VPP
	HTTP       HTTP
	Log        Log
	Mechanisms Mechanisms
	Tunnels    Tunnels
	Kernel     Kernel
	SRIOV      SRIOV
}

// Node is who this node is.
type Node struct {
	Name     string // a valid record name
	Address  string // IP address that tunnels end at; empty: no tunnels
	Address6 string // IPv6 address that tunnels end at as well
	MTU      int    // of the underlay, in bytes; 0: that of the interface that has Address
	Lease    int    // seconds that it is listed for after it died
}

// GRPC is where the agent serves its API.
type GRPC struct {
	Listen    []string // unix:///path or tcp://host:port; tcp needs TLS
	Advertise string   // tcp://host:port for other agents; empty: none is served
	TLS       TLS      // from files
	SPIFFE    string   // unix:///path of the Workload API, instead of files
}

// TCP is where other agents are served, each host:port.
func (g GRPC) TCP() []string {
	var list []string
	for _, l := range g.Listen {
		if addr, ok := strings.CutPrefix(l, "tcp://"); ok {
			list = append(list, addr)
		}
	}
	return list
}

// TLS names PEM files. CA verifies the other side.
type TLS struct{ Cert, Key, CA string }

// Etcd is where the records are; no endpoints means the embedded etcd. plugins/store says
// which combinations it serves.
type Etcd struct {
	Endpoints []string
	Prefix    string
	TLS       TLS
	Username  string
	Password  Secret
	Listen    string
	DataDir   string
	Insecure  bool
}

// VPP is how VPP is reached.
type VPP struct {
	APISocket   string
	StatsSocket string
	RunDir      string // sockets of workloads are made under it
	RxMode      string // polling, interrupt or adaptive
	LookEvery   int    // seconds between looks at what VPP does not tell of; 0: none
	Workers     []int  // of VPP's that may be used, from 0; none: all
	Queues      int    // that memif workloads are told to make; 0: their own choice
	RingSize    int    // entries, a power of 2; 0: their own choice
	BufferSize  int    // bytes; 0: their own choice
	Interfaces  int    // at most so many in VPP
	VhostPorts  int    // at most so many vhost-user ports
	Buffers     int    // so many stay free in VPP
}

// HTTP is where metrics and health are served.
type HTTP struct {
	Listen string // host:port; empty: not at all
}

// Log is how the agent logs.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Mechanisms is what negotiation prefers.
type Mechanisms struct {
	Prefer []string // mechanism types, best first; empty: the agent's own order
	Path   string   // of connections on this node: direct, forwarder, or empty for the default
}

// Tunnels is how those to other nodes are looked after.
type Tunnels struct {
	Detect int // seconds after which a path that carries nothing is noticed; 0: it is not
}

// Kernel is what the kernel dataplane may do.
type Kernel struct {
	AllowAgentNetns bool // workloads may name the agent's own network namespace
}

// Secret is a value that no log and no message shows.
type Secret string

const hidden = "(hidden)"

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
