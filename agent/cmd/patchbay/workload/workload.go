// Package workload asks for a connection as a client of Network Service Mesh and keeps it:
// it refreshes it in time, hears of its state, asks again when the agent comes back and
// for another endpoint when its own is gone.
package workload

import (
	"context"
	"errors"
	"maps"
	"os"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// Options of a Workload.
type Options struct {
	Agent      *grpc.ClientConn // dialled with fdpass.Credentials
	Service    string           // the network service
	ID         string           // of the connection
	Name       string           // of the client, on the path
	Netns      *os.File         // the network namespace to connect
	Interface  string           // name of the interface; empty: the agent chooses
	Mechanisms []string         // types, best first
	Pool       string           // of virtual functions, one of which it gets; empty: none
	Token      string           // the device plugin's, for the one that it has
	Payload    string           // empty: the network service's
	Labels     map[string]string
	Lifetime   time.Duration // until the agent closes the connection unless it is refreshed
	Timeout    time.Duration // of one request
	Changed    func(Event)   // called for each change, one at a time
}

// Event is what became of the connection.
type Event struct {
	What       Kind
	Connection *networkservice.Connection // as last replied
	Err        error                      // of Trouble
}

// Kind of an Event.
type Kind int

// Kinds of events.
const (
	Up      Kind = iota // it carries traffic, again or with something changed
	Down                // a peer or a link is not there
	Closed              // the agent has closed it
	Away                // the agent does not answer; the connection stays as it is
	Trouble             // a request failed and is tried again
)

// Workload is one connection of one client.
type Workload struct {
	Options
	conn *networkservice.Connection // as last replied
}

// New makes a Workload; Connect asks for its connection.
func New(o Options) *Workload { return &Workload{Options: o} }

// Connect requests the connection and gives it as the agent replied.
func (w *Workload) Connect(ctx context.Context) (*networkservice.Connection, error) {
	return w.request(ctx, w.first())
}

// Connection is the connection as last replied, nil before there is one.
func (w *Workload) Connection() *networkservice.Connection { return w.conn }

// first is the connection as it is asked for, without anything that was replied.
func (w *Workload) first() *networkservice.Connection {
	return &networkservice.Connection{
		Id:             w.ID,
		NetworkService: w.Service,
		Payload:        w.Payload,
		Labels:         maps.Clone(w.Labels),
		Context:        &networkservice.ConnectionContext{IpContext: &networkservice.IPContext{}},
		Path:           &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: w.Name, Id: w.ID}}},
	}
}

// request sends a connection for as long as a lifetime from now.
func (w *Workload) request(ctx context.Context, conn *networkservice.Connection) (*networkservice.Connection, error) {
	preferences, err := w.preferences()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	conn.Path.PathSegments[0].Expires = timestamppb.New(time.Now().Add(w.Lifetime))
	in := &networkservice.NetworkServiceRequest{Connection: conn, MechanismPreferences: preferences}
	out, err := networkservice.NewNetworkServiceClient(w.Agent).Request(ctx, in, fdpass.Send(w.Netns))
	if err != nil {
		return nil, err
	}
	if len(out.GetPath().GetPathSegments()) == 0 {
		return nil, errors.New("the agent's reply has no path")
	}
	w.conn = out
	return out, nil
}

// remote are the mechanisms that NSM calls remote; the others link a workload to its node.
var remote = map[string]bool{"VXLAN": true, "GRE": true, "GENEVE": true, "WIREGUARD": true, "IPSEC": true, "SRV6": true, "L2TP": true}

// sockets are the mechanisms that are a socket and not an interface of the kernel.
var sockets = map[string]bool{"MEMIF": true, "VHOST_USER": true}

func (w *Workload) preferences() ([]*networkservice.Mechanism, error) {
	url, err := fdpass.URL(w.Netns)
	if err != nil {
		return nil, err
	}
	var out []*networkservice.Mechanism
	for _, t := range w.Mechanisms {
		m := &networkservice.Mechanism{Cls: cls.LOCAL, Type: t, Parameters: map[string]string{}}
		for key, value := range map[string]string{"pool": w.Pool, common.DeviceTokenIDKey: w.Token} {
			if value != "" {
				m.Parameters[key] = value
			}
		}
		switch {
		case remote[t]:
			m.Cls = cls.REMOTE
		case sockets[t]: // in the file system, where the agent puts it
		default:
			m.Parameters[common.InodeURL] = url
			if w.Interface != "" {
				m.Parameters[common.InterfaceNameKey] = w.Interface
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// Close ends the connection on both sides.
func (w *Workload) Close(ctx context.Context) error {
	if w.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	_, err := networkservice.NewNetworkServiceClient(w.Agent).Close(ctx, w.conn, fdpass.Send(w.Netns))
	return err
}

// lasts is how long a connection lasts from now: until the first of its segments expires.
func lasts(conn *networkservice.Connection) time.Duration {
	var out time.Duration
	for _, s := range conn.GetPath().GetPathSegments() {
		if s.Expires == nil {
			continue
		}
		if left := time.Until(s.Expires.AsTime()); out == 0 || left < out {
			out = left
		}
	}
	return out
}
