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

// Bridges are the bridges of this node, which can answer network services themselves: of
// such an endpoint, each node is its own clients'.
type Bridges interface {
	// Serving names the bridge that answers a network service; empty: none does.
	Serving(service string) string
	// Services are the network services that bridges answer.
	Services() []string
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

// bridgeFor is the bridge that answers a network service as an endpoint here; nil: none does.
func (m *Manager) bridgeFor(service string) *models.Endpoint {
	if m.Bridges == nil {
		return nil
	}
	name := m.Bridges.Serving(service)
	if name == "" {
		return nil
	}
	return &models.Endpoint{Name: "bridge/" + name, Services: []string{service}, Url: bridgeScheme + name}
}

// service gives a network service, nil if there is none, and its endpoints: a bridge first.
func (m *Manager) service(name string) (*models.Service, []*models.Endpoint) {
	s, all := m.registry.service(name)
	if e := m.bridgeFor(name); e != nil {
		if s == nil {
			s = &models.Service{Name: name, Payload: models.Ethernet}
		}
		all = append([]*models.Endpoint{e}, all...)
	}
	return s, all
}

// services are all names that can be asked for.
func (m *Manager) services() []string {
	all := m.registry.serviceNames()
	if m.Bridges != nil {
		all = append(all, m.Bridges.Services()...)
	}
	return all
}

// Serves has what could not be connected tried again, since bridges answer these network
// services now.
func (m *Manager) Serves(services []string) { m.endpointCame(&models.Endpoint{Services: services}) }

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
