package admin

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/sriov"
)

// listDevices sends the virtual functions of the node's pools and, if asked to, what changes.
func (s *Server) listDevices(in *adminpb.ListRequest, out listStream) error {
	shown := map[string]*adminpb.Device{}
	for first := true; ; first = false {
		var list []sriov.Device
		var changed <-chan struct{}
		if s.Devices != nil {
			changed = s.Devices.Changed()
			list = s.Devices.Devices()
		}
		if err := s.sendDevices(in.Name, list, shown, out); err != nil {
			return err
		}
		if first {
			if err := out.Send(&adminpb.ListEvent{Synced: true}); err != nil || !in.Watch {
				return err
			}
		}
		select {
		case <-changed:
		case <-out.Context().Done():
			return nil
		}
	}
}

// sendDevices sends what is not as it was shown.
func (s *Server) sendDevices(name string, list []sriov.Device, shown map[string]*adminpb.Device, out listStream) error {
	send := func(d *adminpb.Device, gone bool) error {
		return out.Send(&adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Device{Device: d}}, Deleted: gone})
	}
	there := map[string]bool{}
	for _, d := range list {
		if name != "" && name != d.ID {
			continue
		}
		there[d.ID] = true
		if v := s.device(d); !proto.Equal(shown[d.ID], v) {
			shown[d.ID] = v
			if err := send(v, false); err != nil {
				return err
			}
		}
	}
	for id := range shown {
		if !there[id] {
			delete(shown, id)
			if err := send(&adminpb.Device{Id: id}, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// device is a virtual function as the commands show it.
func (s *Server) device(d sriov.Device) *adminpb.Device {
	v := &adminpb.Device{Id: d.ID, Pool: d.Pool, Pf: d.PF, Card: d.Card, Vf: uint32(d.VF), Driver: d.Driver, Healthy: d.Healthy, Reason: d.Why}
	if d.NUMA >= 0 {
		v.Numa = proto.Uint32(uint32(d.NUMA))
	}
	if d.Group >= 0 {
		v.Group = proto.Uint32(uint32(d.Group))
	}
	v.Connection, v.Side, _ = strings.Cut(d.Owner, "/")
	if s.Given != nil {
		if at := s.Given(d.ID); !at.IsZero() {
			v.Given = timestamppb.New(at)
		}
	}
	return v
}
