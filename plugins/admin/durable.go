package admin

import (
	"context"
	"fmt"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

// listUnconnected sends the durable requests that have no cross-connect, with the reason.
// Those that have are shown by it; a change of the others is seen in the next list.
func (s *Server) listUnconnected(in *adminpb.ListRequest, out listStream, shown map[string]bool) error {
	kvs, _, err := s.Store.List(out.Context(), s.Keys.Connections())
	if err != nil {
		return unavailable(fmt.Errorf("durable requests that are not connected are not listed: %w", err))
	}
	for _, kv := range kvs {
		id, err := models.Name(s.Keys.Connections(), kv.Key)
		if err != nil || shown[id] || in.Name != "" && in.Name != id {
			continue
		}
		if e := s.unconnected(out.Context(), id); e != nil {
			if err := out.Send(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// unconnected shows a durable request that has no cross-connect as if it had one; nil:
// there is no such request.
func (s *Server) unconnected(ctx context.Context, id string) *adminpb.ListEvent {
	kv, err := s.Store.Get(ctx, s.Keys.Connection(id))
	if err != nil {
		return nil
	}
	v := &adminpb.CrossConnectView{Desired: &models.CrossConnect{Id: id}, Status: &models.CrossConnectStatus{Id: id, State: models.State_PENDING}}
	c := &models.Connection{}
	if models.Unmarshal(kv.Value, c) == nil { // else the status says what is wrong with it
		v.Desired.NetworkService, v.Desired.Payload, v.Desired.Mtu = c.NetworkService, c.Payload, c.Mtu
		v.Desired.Client = &models.Attachment{Mechanism: c.Mechanism, Addresses: c.Addresses}
	}
	st := &models.ConnectionStatus{}
	if kv, err := s.Store.Get(ctx, s.Keys.ConnectionStatus(id)); err == nil && models.Unmarshal(kv.Value, st) == nil {
		v.Status.State, v.Status.Reason, v.Status.Revision = st.State, st.Reason, st.Revision
	}
	return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Crossconnect{Crossconnect: v}}}
}
