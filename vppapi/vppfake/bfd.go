package vppfake

import (
	"fmt"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	"go.fd.io/govpp/binapi/interface_types"
)

// bfdKey is what VPP tells sessions of several hops apart by.
type bfdKey struct{ local, remote netip.Addr }

// bfdSession is a session, as it was made, and its state.
type bfdSession struct {
	made  *bfd.BfdUDPUpd
	state bfd.BfdState
}

// bfdMessages adds BFD (VPP: src/vnet/bfd).
func bfdMessages(t *table) {
	on(t, false, func(at *call, q *bfd.WantBfdEvents, _ *bfd.WantBfdEventsReply) int32 {
		if q.EnableDisable == at.c.bfdEvents {
			return int32(api.INVALID_REGISTRATION)
		}
		at.c.bfdEvents = q.EnableDisable
		return 0
	})
	t.add(&bfd.BfdUDPSessionEvent{})
	on(t, false, func(at *call, _ *bfd.BfdUDPEnableMultihop, _ *bfd.BfdUDPEnableMultihopReply) int32 {
		at.w.multihop = true
		return 0
	})
	on(t, true, func(at *call, q *bfd.BfdUDPUpd, _ *bfd.BfdUDPUpdReply) int32 {
		key := bfdKey{fromAddress(q.LocalAddr), fromAddress(q.PeerAddr)}
		switch s := at.w.bfd[key]; {
		case !at.w.multihop || q.SwIfIndex != none:
			return int32(api.INVALID_SW_IF_INDEX)
		case key.local.Is4() != key.remote.Is4() || q.DesiredMinTx == 0 || q.DetectMult == 0:
			return int32(api.INVALID_ARGUMENT)
		case s != nil:
			s.made = q
		default:
			at.w.bfd[key] = &bfdSession{made: q, state: bfd.BFD_STATE_API_DOWN}
		}
		return 0
	})
	on(t, true, func(at *call, q *bfd.BfdUDPDel, _ *bfd.BfdUDPDelReply) int32 {
		key := bfdKey{fromAddress(q.LocalAddr), fromAddress(q.PeerAddr)}
		if at.w.bfd[key] == nil {
			return int32(api.BFD_ENOENT)
		}
		delete(at.w.bfd, key)
		return 0
	})
	on(t, true, func(at *call, q *bfd.BfdUDPSessionSetFlags, _ *bfd.BfdUDPSessionSetFlagsReply) int32 {
		s := at.w.bfd[bfdKey{fromAddress(q.LocalAddr), fromAddress(q.PeerAddr)}]
		if s == nil {
			return int32(api.BFD_ENOENT)
		}
		state := bfd.BFD_STATE_API_ADMIN_DOWN
		if q.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0 {
			state = bfd.BFD_STATE_API_DOWN
		}
		at.v.setBFD(s, state)
		return 0
	})
	list(t, func(at *call, _ *bfd.BfdUDPSessionDump) (all []*bfd.BfdUDPSessionDetails) {
		for _, s := range at.w.bfd {
			all = append(all, &bfd.BfdUDPSessionDetails{
				SwIfIndex: none, LocalAddr: s.made.LocalAddr, PeerAddr: s.made.PeerAddr, State: s.state,
				RequiredMinRx: s.made.RequiredMinRx, DesiredMinTx: s.made.DesiredMinTx, DetectMult: s.made.DetectMult,
			})
		}
		return all
	})
}

// SetBFD has a session come up, or go down, as its peer would. It is an error if there is none.
func (v *VPP) SetBFD(local, remote netip.Addr, up bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world == nil || v.world.bfd[bfdKey{local, remote}] == nil {
		return fmt.Errorf("fake VPP: no BFD session from %s to %s", local, remote)
	}
	state := bfd.BFD_STATE_API_DOWN
	if up {
		state = bfd.BFD_STATE_API_UP
	}
	v.setBFD(v.world.bfd[bfdKey{local, remote}], state)
	return nil
}

// setBFD tells who wants to know. v.mu is held.
func (v *VPP) setBFD(s *bfdSession, state bfd.BfdState) {
	s.state = state
	for c := range v.clients {
		if c.bfdEvents {
			e := &bfd.BfdUDPSessionEvent{SwIfIndex: none, LocalAddr: s.made.LocalAddr, PeerAddr: s.made.PeerAddr, State: state}
			c.send(e, c.table.ids[e.GetMessageName()], c.index)
		}
	}
}
