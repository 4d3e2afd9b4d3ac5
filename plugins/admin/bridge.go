package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/store"
)

// listBridges reads bridges from etcd as they are asked for: of other nodes, this agent knows
// only those that share a bridge with it. The changes that are seen are those of records and
// of what they are on this node.
func (s *Server) listBridges(in *adminpb.ListRequest, out listStream) error {
	kvs, revision, err := s.Store.List(out.Context(), s.Keys.Bridges())
	if err != nil {
		return unavailable(err)
	}
	shown := map[string]bool{}
	for _, kv := range kvs {
		name, err := models.Name(s.Keys.Bridges(), kv.Key)
		if err != nil || in.Name != "" && in.Name != name {
			continue
		}
		shown[name] = true
		if err := s.sendBridge(out, name); err != nil {
			return err
		}
	}
	if err := out.Send(&adminpb.ListEvent{Synced: true}); err != nil || !in.Watch {
		return err
	}
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	changed := make(chan string, backlog)
	for _, prefix := range []string{s.Keys.Bridges(), s.Keys.BridgeStatuses()} {
		go func() {
			if err := s.Store.Watch(ctx, prefix, func(b store.Batch) { pass(changed, prefix, b, revision, cancel) }); err != nil {
				cancel()
			}
		}()
	}
	for {
		select {
		case name := <-changed:
			if in.Name != "" && in.Name != name {
				continue
			}
			if err := s.sendBridge(out, name); err != nil {
				return err
			}
		case <-ctx.Done():
			if out.Context().Err() != nil {
				return nil
			}
			return errSlow
		}
	}
}

// pass hands on the names of what has changed since a revision, or ends it all when nobody
// takes them.
func pass(changed chan<- string, prefix string, b store.Batch, since int64, slow func()) {
	keys := b.Deletes
	for _, kv := range b.Puts {
		if kv.Revision > since {
			keys = append(keys, kv.Key)
		}
	}
	for _, key := range keys {
		name, err := models.Name(prefix, key)
		if err != nil {
			continue
		}
		select {
		case changed <- name:
		default:
			slow()
		}
	}
}

func (s *Server) sendBridge(out listStream, name string) error {
	v, there, err := s.viewBridge(out.Context(), name)
	if err != nil {
		return unavailable(err)
	}
	return out.Send(&adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Bridge{Bridge: v}}, Deleted: !there})
}

// viewBridge reads a bridge, and what it is on each node that has members.
func (s *Server) viewBridge(ctx context.Context, name string) (v *adminpb.BridgeView, there bool, err error) {
	v = &adminpb.BridgeView{Desired: &models.Bridge{}}
	there = true
	kv, err := s.Store.Get(ctx, s.Keys.Bridge(name))
	switch {
	case errors.Is(err, store.ErrNotFound):
		there = false
	case err != nil:
		return nil, false, err
	default:
		// What cannot be read is shown by its name; its state says what is wrong.
		if models.Unmarshal(kv.Value, v.Desired) != nil {
			v.Desired.Reset()
		}
	}
	v.Desired.Name = name
	kvs, _, err := s.Store.List(ctx, s.Keys.MeshNodes(name))
	if err != nil {
		return nil, false, err
	}
	nodes := map[string][]string{s.Keys.Node: nil}
	for _, kv := range kvs {
		n := &models.BridgeNode{}
		if models.Unmarshal(kv.Value, n) == nil {
			nodes[n.Node] = n.Addresses
		}
	}
	for node, addresses := range nodes {
		on := &adminpb.BridgeOnNode{Node: node, Addresses: addresses, Status: &models.BridgeStatus{}}
		err := s.read(ctx, models.Keys{Prefix: s.Keys.Prefix, Node: node}.BridgeStatus(name), on.Status)
		if errors.Is(err, store.ErrNotFound) {
			if node != s.Keys.Node {
				continue
			}
			// Without a member the node has no status of it, but an opinion.
			if on.Status.Reason = s.Bridges.Refused(name); on.Status.Reason == "" {
				continue
			}
			on.Status.State, err = models.State_FAILED, nil
		}
		if err != nil {
			return nil, false, err
		}
		v.Nodes = append(v.Nodes, on)
	}
	slices.SortFunc(v.Nodes, func(a, b *adminpb.BridgeOnNode) int { return cmp.Compare(a.Node, b.Node) })
	return v, there || len(v.Nodes) > 0, nil
}

// DescribeBridge gives all that is known of a bridge: its members on all nodes, and what the
// dataplane of this one has of it.
func (s *Server) DescribeBridge(ctx context.Context, in *adminpb.DescribeBridgeRequest) (*adminpb.DescribeBridgeResponse, error) {
	if err := s.rootOnly(ctx, "describe bridges"); err != nil {
		return nil, err
	}
	v, there, err := s.viewBridge(ctx, in.Name)
	if err != nil {
		return nil, unavailable(err)
	}
	if !there {
		return nil, status.Errorf(codes.NotFound, "bridge %q is not there; list them with: patchbay get bridges", in.Name)
	}
	out := &adminpb.DescribeBridgeResponse{Bridge: v}
	if out.Members, err = s.members(ctx, in.Name); err != nil {
		return nil, unavailable(err)
	}
	look, err := s.Bridges.Look(ctx, in.Name)
	if err != nil {
		out.Missing = err.Error()
		return out, nil
	}
	out.Interface = look.Name
	for _, p := range look.Ports {
		out.Ports = append(out.Ports, &adminpb.BridgePort{Place: place(p.Place), Interface: p.Interface, Up: p.Up, Counters: &adminpb.Counters{
			ReceivePackets: p.RxPackets, ReceiveBytes: p.RxBytes, TransmitPackets: p.TxPackets, TransmitBytes: p.TxBytes, Drops: p.Drops}})
	}
	for _, m := range look.MACs {
		out.Macs = append(out.Macs, &adminpb.BridgeMAC{Place: place(m.Place), Mac: net.HardwareAddr(m.MAC[:]).String(), Static: m.Static})
	}
	return out, nil
}

func place(p bridge.Place) *adminpb.BridgePlace {
	out := &adminpb.BridgePlace{Connection: p.Connection, Mesh: p.Mesh, Gateway: p.Gateway}
	if p.Peer.IsValid() {
		out.Peer = p.Peer.String()
	}
	return out
}

// members lists those of a bridge on all nodes, by node and connection: each has its MAC in etcd.
func (s *Server) members(ctx context.Context, name string) (all []*adminpb.BridgeMember, err error) {
	prefix := s.Keys.Addresses(name)
	kvs, _, err := s.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	for _, kv := range kvs {
		address, err := models.Name(prefix, kv.Key)
		m := &models.Member{}
		if err != nil || models.Unmarshal(kv.Value, m) != nil || m.Mac != address {
			continue
		}
		b := &adminpb.BridgeMember{Member: m, Status: &models.CrossConnectStatus{}}
		err = s.read(ctx, models.Keys{Prefix: s.Keys.Prefix, Node: m.Node}.Status(m.Connection), b.Status)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *adminpb.BridgeMember) int {
		return cmp.Or(cmp.Compare(a.Member.Node, b.Member.Node), cmp.Compare(a.Member.Connection, b.Member.Connection))
	})
	return all, nil
}

// read reads a message; one that cannot be read is as if it were not there.
func (s *Server) read(ctx context.Context, key string, m proto.Message) error {
	kv, err := s.Store.Get(ctx, key)
	if err == nil && models.Unmarshal(kv.Value, m) != nil {
		err = store.ErrNotFound
	}
	return err
}

// unused refuses a bridge that has members.
func (s *Server) unused(ctx context.Context, name string) error {
	members, err := s.members(ctx, name)
	if err != nil {
		return unavailable(err)
	}
	var nodes []string
	for _, m := range members {
		if !slices.Contains(nodes, m.Member.Node) {
			nodes = append(nodes, m.Member.Node)
		}
	}
	if len(members) == 0 {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "bridge %q has %s on %s; delete them first, or use --force, and they go down", name, count(len(members), "member"), strings.Join(nodes, ", "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
