package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/memif"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/noop"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// paramNetns is the parameter of a record's mechanism that refers to a network
// namespace. NSM's inodeURL becomes it here; nobody may pass it over the wire.
const paramNetns = "netns"

// paramPort is in the status of a mechanism: what the forwarder made of it.
const paramPort = "port"

// paramOwner is uid:gid of the workload that a socket is for.
const paramOwner = "owner"

// want is one mechanism that the client would take: as it was sent, and as a record has it.
type want struct {
	nsm    *networkservice.Mechanism
	record *models.Mechanism
}

// readWants reads what the client would take. A connection that has a mechanism already
// insists on it.
func (m *Manager) readWants(ctx context.Context, r *request, preferences []*networkservice.Mechanism) error {
	if r.peer.agent != nil {
		return m.readTunnels(ctx, r, preferences)
	}
	list := preferences
	if r.conn.Mechanism != nil {
		list, r.insist = []*networkservice.Mechanism{r.conn.Mechanism}, true
	}
	if len(list) == 0 {
		for _, o := range m.Agent().GetOffers() {
			if o.Class != "" && o.Class != cls.LOCAL || slices.ContainsFunc(list, func(l *networkservice.Mechanism) bool { return l.Type == o.Type }) {
				continue
			}
			list = append(list, &networkservice.Mechanism{Cls: cls.LOCAL, Type: o.Type})
		}
	}
	for i, in := range list {
		if in.GetType() == "" {
			return status.Errorf(codes.InvalidArgument, "mechanism_preferences[%d].type is missing; name the mechanism, for instance KERNEL", i)
		}
		w := want{nsm: in, record: &models.Mechanism{Type: in.Type, Parameters: in.Parameters}}
		if m.serves(in.Type) { // of what nobody here can do, the parameters do not matter
			var url string
			var err error
			if w.record, url, err = m.mechanismFromNSM(r.peer, in); err == nil && url != "" {
				err = m.readNamespace(ctx, r, w.record, url)
			}
			if err != nil {
				return status.Errorf(codes.InvalidArgument, "mechanism %s: %v", in.Type, err)
			}
		}
		r.wants = append(r.wants, w)
	}
	return nil
}

// serves tells whether workloads of this node can have a mechanism.
func (m *Manager) serves(mechanism string) bool {
	o := m.offer(mechanism)
	return o != nil && o.Class != cls.REMOTE
}

// offer is this node's of a mechanism, nil if it has none.
func (m *Manager) offer(mechanism string) *models.Offer {
	for _, o := range m.Agent().GetOffers() {
		if o.Type == mechanism {
			return o
		}
	}
	return nil
}

// mechanismFromNSM gives a mechanism of a peer its form in a record, but for its namespace: url is that
// which it passes, or else its own; empty if it needs none.
func (m *Manager) mechanismFromNSM(p peer, in *networkservice.Mechanism) (out *models.Mechanism, url string, err error) {
	parameters := maps.Clone(in.GetParameters())
	if parameters == nil {
		parameters = map[string]string{}
	}
	for _, name := range []string{paramNetns, paramOwner} {
		if _, ok := parameters[name]; ok {
			return nil, "", fmt.Errorf("parameter %s is for records only; pass the namespace's descriptor and %s", name, common.InodeURL)
		}
	}
	delete(parameters, paramDevice)
	out = &models.Mechanism{Type: in.GetType(), Parameters: parameters}
	url = parameters[common.InodeURL]
	delete(parameters, common.InodeURL)
	delete(parameters, common.NetNSInodeKey) // a number alone says nothing that can be opened
	switch {
	case in.GetType() == noop.MECHANISM: // nothing is made for it, so it is nowhere
		return out, "", nil
	case m.offer(in.GetType()).GetSharedMemory():
		// It is a socket, the peer's own, and the node settles where it is. With a namespace, as
		// NSM's clients pass it with MEMIF, it is an abstract socket there.
		parameters[paramOwner] = fmt.Sprintf("%d:%d", p.UID, p.GID)
		delete(parameters, memif.SocketFilename)
		delete(parameters, common.InterfaceNameKey)
		if in.GetType() != memif.MECHANISM {
			url = ""
		}
	case url == "":
		url = "file:///proc/self/ns/net"
	}
	return out, url, nil
}

// checkClient refuses what the client itself got wrong before an endpoint is asked, but for what its
// descriptors lead to, see openPassed.
func (m *Manager) checkClient(r *request) error {
	for _, w := range r.wants {
		if r.peer.agent == nil && !m.serves(w.record.Type) {
			continue
		}
		if err := m.Records.CheckMechanism(models.ClientSide, w.record); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
	x := attachments(r.conn.GetContext())
	x.Id, x.Client.Mechanism = r.id, r.wants[0].record
	x.Endpoint.Mechanism = r.wants[0].record
	if err := models.ValidateCrossConnect(x); err != nil {
		var field *models.FieldError
		if errors.As(err, &field) {
			return status.Errorf(codes.InvalidArgument, "connection.context: %v", err)
		}
		return err
	}
	return nil
}
