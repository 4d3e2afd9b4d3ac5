package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/manager"
	"go.patchbay.dev/plugins/store"
)

// Kinds of objects that can be listed.
var Kinds = []string{"crossconnects", "connections", "services", "endpoints", "bridges", "agents", "devices"}

// backlog is how many changes a watcher may lag behind before it is cut off.
const backlog = 1024

var errSlow = status.Error(codes.ResourceExhausted, "the watcher is too slow; list again")

type listStream = grpc.ServerStreamingServer[adminpb.ListEvent]

// List sends the objects of a kind, a mark that these were all, and, if asked to watch,
// each change until the caller leaves.
func (s *Server) List(in *adminpb.ListRequest, out listStream) error {
	if !slices.Contains(Kinds, in.Kind) {
		return status.Errorf(codes.InvalidArgument, "kind %q is not known; use one of %s", in.Kind, strings.Join(Kinds, ", "))
	}
	if in.Kind != "connections" {
		if err := s.rootOnly(out.Context(), "list "+in.Kind); err != nil {
			return err
		}
	}
	switch in.Kind {
	case "crossconnects", "connections":
		return s.listCrossConnects(in, out)
	case "bridges":
		return s.listBridges(in, out)
	case "agents":
		return s.listAgents(in, out)
	case "devices":
		return s.listDevices(in, out)
	default:
		return s.listRegistry(in, out)
	}
}

func (s *Server) listCrossConnects(in *adminpb.ListRequest, out listStream) error {
	owner, root, err := s.caller(out.Context())
	if err != nil {
		return err
	}
	wanted := func(e crossconnect.Event) bool {
		if in.Name != "" && in.Name != e.ID {
			return false
		}
		return in.Kind == "crossconnects" || e.Desired.GetRequest() != nil && (root || e.Desired.Request.Owner == owner)
	}
	events := s.crossconnects.watch()
	defer s.crossconnects.unwatch(events)
	shown := map[string]bool{}
	for _, e := range s.CrossConnects.List() {
		if wanted(e) {
			shown[e.ID] = true
			if err := out.Send(view(e)); err != nil {
				return err
			}
		}
	}
	var unread error
	if in.Kind == "connections" && root && !shown[in.Name] {
		unread = s.listUnconnected(in, out, shown)
	}
	if err := out.Send(&adminpb.ListEvent{Synced: true}); err != nil || unread != nil || !in.Watch {
		return cmp.Or(err, unread) // after what there is, which is known without etcd
	}
	return follow(out.Context(), events, func(e crossconnect.Event) error {
		// What goes away was shown before, or it is none of the caller's.
		if gone := e.Desired == nil && e.Status == nil; gone && !shown[e.ID] || !gone && !wanted(e) {
			return nil
		} else if gone {
			delete(shown, e.ID)
		} else {
			shown[e.ID] = true
		}
		return out.Send(view(e))
	})
}

func view(e crossconnect.Event) *adminpb.ListEvent {
	v := &adminpb.CrossConnectView{Desired: e.Desired, Status: e.Status}
	gone := e.Desired == nil && e.Status == nil
	if e.Desired == nil {
		v.Desired = &models.CrossConnect{Id: e.ID}
	}
	return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Crossconnect{Crossconnect: v}}, Deleted: gone}
}

func (s *Server) listRegistry(in *adminpb.ListRequest, out listStream) error {
	services, endpoints, changes, stop := s.Registry.WatchRegistry()
	defer stop()
	send := func(c manager.Change) error {
		e := &adminpb.ListEvent{Deleted: c.Deleted}
		switch {
		case c.Service != nil && in.Kind == "services" && (in.Name == "" || in.Name == c.Service.Name):
			e.Object = &adminpb.Object{Kind: &adminpb.Object_Service{Service: c.Service}}
		case c.Endpoint != nil && in.Kind == "endpoints" && (in.Name == "" || in.Name == c.Endpoint.Name):
			e.Object = &adminpb.Object{Kind: &adminpb.Object_Endpoint{Endpoint: c.Endpoint}}
		default:
			return nil
		}
		return out.Send(e)
	}
	for _, v := range services {
		if err := send(manager.Change{Service: v}); err != nil {
			return err
		}
	}
	for _, v := range endpoints {
		if err := send(manager.Change{Endpoint: v}); err != nil {
			return err
		}
	}
	if err := out.Send(&adminpb.ListEvent{Synced: true}); err != nil || !in.Watch {
		return err
	}
	return follow(out.Context(), changes, send)
}

// listAgents reads agents from etcd as they are asked for: nothing in this agent needs them.
func (s *Server) listAgents(in *adminpb.ListRequest, out listStream) error {
	if !in.Watch {
		kvs, revision, err := s.Store.List(out.Context(), s.Keys.Agents())
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		return s.sendAgents(in, out, store.Batch{Snapshot: true, Revision: revision, Puts: kvs})
	}
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	var failed error
	err := s.Store.Watch(ctx, s.Keys.Agents(), func(b store.Batch) {
		if failed = s.sendAgents(in, out, b); failed != nil {
			cancel()
		}
	})
	if failed != nil {
		return failed
	}
	return err
}

func (s *Server) sendAgents(in *adminpb.ListRequest, out listStream, b store.Batch) error {
	for _, kv := range b.Puts {
		a, err := models.ParseAgent(kv.Value)
		if err != nil || in.Name != "" && in.Name != a.Node {
			continue
		}
		if err := out.Send(&adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Agent{Agent: a}}}); err != nil {
			return err
		}
	}
	for _, key := range b.Deletes {
		node, err := models.Name(s.Keys.Agents(), key)
		if err != nil || in.Name != "" && in.Name != node {
			continue
		}
		gone := &adminpb.Object{Kind: &adminpb.Object_Agent{Agent: &models.Agent{Node: node}}}
		if err := out.Send(&adminpb.ListEvent{Object: gone, Deleted: true}); err != nil {
			return err
		}
	}
	if b.Snapshot {
		return out.Send(&adminpb.ListEvent{Synced: true})
	}
	return nil
}

// follow hands what comes to send until the caller leaves or is too slow.
func follow[T any](ctx context.Context, events <-chan T, send func(T) error) error {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return errSlow
			}
			if err := send(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// hub passes the events of the cross-connects on to those who watch.
type hub struct {
	mu       sync.Mutex
	watchers map[chan crossconnect.Event]struct{}
}

func (h *hub) tell(e crossconnect.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		select {
		case w <- e:
		default:
			delete(h.watchers, w)
			close(w)
		}
	}
}

func (h *hub) watch() chan crossconnect.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := make(chan crossconnect.Event, backlog)
	h.watchers[w] = struct{}{}
	return w
}

func (h *hub) unwatch(w chan crossconnect.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}
