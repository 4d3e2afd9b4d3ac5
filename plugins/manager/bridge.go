package manager

import (
	"context"
	"errors"
	"strings"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// Bridges are the bridges of this node, which can answer network services themselves, see
// Manager.Serves.
type Bridges interface {
	// Admit takes a MAC and addresses for a client in a bridge, or those that it has, and
	// gives them with the bridge's gateways and MTU. What is asked for and cannot be had is
	// an error, which wraps models.ErrFull where nobody could have it.
	Admit(ctx context.Context, bridge, id string, asked []string) (member *models.Member, gateways []string, mtu uint32, err error)
	// Release has a client have what is on its record, or nothing if there is none.
	Release(bridge, id string)
}

const bridgeScheme = "bridge://"

// bridgeOf is the bridge that a URL stands for.
func bridgeOf(url string) (bridge string, ok bool) { return strings.CutPrefix(url, bridgeScheme) }

// IsBridge tells whether an endpoint is a bridge of this node.
func IsBridge(e *models.Endpoint) bool {
	_, ok := bridgeOf(e.GetUrl())
	return ok
}

// Serves takes in which bridge answers which network service, as an endpoint bridge/<name> that
// is on every node: it is found like those that are registered.
func (m *Manager) Serves(services map[string]string) { m.registry.serve(services) }

// bridgePrefix begins the names of endpoints that are bridges.
const bridgePrefix = "bridge/"

// serve makes endpoints of the bridges that answer network services, and of no others.
func (d *directory) serve(services map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s, e := range d.bridges {
		if e.Name == bridgePrefix+services[s] {
			continue
		}
		delete(d.bridges, s)
		d.tell(Change{Endpoint: e, Deleted: true})
		if services[s] == "" && d.services[s] == nil {
			d.tell(Change{Service: bridged(s), Deleted: true})
		}
	}
	for s, bridge := range services {
		if d.bridges[s] != nil {
			continue
		}
		d.bridges[s] = &models.Endpoint{Name: bridgePrefix + bridge, Services: []string{s}, Url: bridgeScheme + bridge}
		if d.services[s] == nil {
			d.tell(Change{Service: bridged(s)})
		}
		d.tell(Change{Endpoint: d.bridges[s]})
	}
}

// bridged is a network service that a bridge answers and nobody has registered.
func bridged(service string) *models.Service {
	return &models.Service{Name: service, Payload: models.Ethernet}
}

// askBridge answers for a bridge of this node as its endpoint would.
func (m *Manager) askBridge(ctx context.Context, bridge string, r *request, next *hop) (*answer, error) {
	out := r.conn.Clone()
	if out.Context == nil {
		out.Context = &networkservice.ConnectionContext{}
	}
	asked := out.Context.GetIpContext().GetSrcIpAddrs()
	if r.record != nil && r.record.Request.EndpointUrl != next.url {
		asked = nil // they are the other endpoint's
	}
	member, gateways, mtu, err := m.Bridges.Admit(ctx, bridge, r.id, asked)
	switch {
	case errors.Is(err, models.ErrFull):
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	case err != nil:
		return nil, coded(err, codes.FailedPrecondition)
	}
	if out.Context.MTU == 0 || out.Context.MTU > mtu {
		out.Context.MTU = mtu
	}
	out.Context.EthernetContext = &networkservice.EthernetContext{SrcMac: member.Mac}
	out.Context.IpContext = &networkservice.IPContext{SrcIpAddrs: member.Addresses, DstIpAddrs: gateways}
	out.Mechanism = &networkservice.Mechanism{Type: models.BridgeMechanism, Parameters: map[string]string{models.ParamBridge: bridge}}
	return &answer{conn: out}, nil
}
