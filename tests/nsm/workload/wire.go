// Package workload is a client, an endpoint or a registry's client of Network Service
// Mesh, made of NSM's own chains, as a process: NSM passes the network namespace of the
// process itself, so each has to live in its own. A test starts its own binary again inside a namespace; commands
// come as JSON lines on standard input, events leave on standard output.
package workload

import (
	"encoding/json"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/protobuf/encoding/protojson"
)

// Env is the environment variable that makes a process a workload; it holds its Config.
const Env = "PATCHBAY_NSM_WORKLOAD"

// Roles of a workload.
const (
	Client   = "client"
	Endpoint = "endpoint"
	Registry = "registry"
)

// Config is what a workload is started with.
type Config struct {
	Role     string
	Name     string        // of its path segment, and of an endpoint in the registry
	Agent    string        // the agent's socket: unix:///path
	Lifetime time.Duration // of its tokens, and so of a connection that is not refreshed
	Timeout  time.Duration // of one request

	Live bool // a client: also watch the data path, as NSM's own client does by default

	Socket   string   // an endpoint: the socket that it serves, a path
	Services []string // an endpoint: what it serves
	Prefixes []string // an endpoint: the prefixes that it takes addresses from, one per connection and prefix
}

// What a workload is told to do.
const (
	Request    = "request"    // a client: connect ID to Service on Interface
	Resume     = "resume"     // the same with what the agent still has of ID, as a client that was restarted
	Close      = "close"      // a client: close ID
	Monitor    = "monitor"    // a client: hear of ID from now on; each call begins a stream
	Register   = "register"   // an endpoint: itself, with Passed the socket goes along as a descriptor; a registry's client: Service
	Unregister = "unregister" // undoes Register

	FindService   = "find-service"   // a registry's client: hear of Service from now on
	FindEndpoints = "find-endpoints" // a registry's client: hear of the endpoints of Service from now on
)

// Command is one line of standard input. Each is answered by an event Done, in order.
type Command struct {
	Do        string
	ID        string        `json:",omitempty"`
	Service   string        `json:",omitempty"`
	Interface string        `json:",omitempty"`
	Memif     bool          `json:",omitempty"` // a client: shared memory instead of an interface of the kernel
	Passed    bool          `json:",omitempty"`
	Expires   time.Duration `json:",omitempty"` // of a registration; 0: as the registry likes
}

// What a workload tells of.
const (
	Ready    = "ready"    // it serves, or takes commands
	Done     = "done"     // the command is done, or failed with Error
	Answered = "answered" // a client: what the agent replied to any request, refreshes included; an endpoint: what it replied
	Closed   = "closed"   // a client has closed, an endpoint was told to
	Heard    = "heard"    // an event of a monitor with Type, or of a registry with Type and Name
)

// Types of events of a registry; those of a monitor are NSM's.
const (
	Found = "found"
	Gone  = "gone"
)

// Event is one line of standard output.
type Event struct {
	What        string
	Error       string `json:",omitempty"`
	Type        string `json:",omitempty"`
	Name        string `json:",omitempty"` // of an endpoint or a network service
	Connections []Conn `json:",omitempty"`
}

// Connection is the only one of the event, nil if there is none.
func (e Event) Connection() *networkservice.Connection {
	if len(e.Connections) == 0 {
		return nil
	}
	return e.Connections[0].Connection
}

// Conn is a connection as JSON.
type Conn struct{ *networkservice.Connection }

// MarshalJSON gives the connection as protojson.
func (c Conn) MarshalJSON() ([]byte, error) { return protojson.Marshal(c.Connection) }

// UnmarshalJSON reads what MarshalJSON gives.
func (c *Conn) UnmarshalJSON(data []byte) error {
	c.Connection = &networkservice.Connection{}
	return protojson.Unmarshal(data, c.Connection)
}

var (
	_ json.Marshaler   = Conn{}
	_ json.Unmarshaler = &Conn{}
)
