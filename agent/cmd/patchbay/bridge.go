package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

func bridgeCells(o *adminpb.Object) []string {
	v := o.GetBridge()
	b := v.GetDesired()
	var nodes []string
	var members uint32
	var vni, mtu string
	for _, n := range v.GetNodes() {
		nodes = append(nodes, n.GetNode())
		members += n.GetStatus().GetMembers()
		if s := n.GetStatus(); s.GetVni() != 0 {
			vni = fmt.Sprint(s.Vni)
		}
		if s := n.GetStatus(); s.GetMtu() != 0 {
			mtu = fmt.Sprint(s.Mtu)
		}
	}
	state, reason := worst(v.GetNodes())
	return []string{b.GetName(), b.GetService(), strings.Join(b.GetSubnets(), ","), strings.Join(nodes, ","), fmt.Sprint(members),
		state, reason, strings.Join(b.GetGateways(), ","), interconnect(b), vni, mtu}
}

func interconnect(b *models.Bridge) string {
	if b.Spans() {
		return models.MeshInterconnect
	}
	return models.ExternalInterconnect
}

// badness is the order of states, the worst last.
var badness = map[models.State]int{models.State_UP: 1, models.State_PENDING: 2, models.State_DOWN: 3, models.State_FAILED: 4}

// worst is the worst state of a bridge on any node, and why it is so there.
func worst(nodes []*adminpb.BridgeOnNode) (state, reason string) {
	var w *adminpb.BridgeOnNode
	for _, n := range nodes {
		if w == nil || badness[n.GetStatus().GetState()] > badness[w.GetStatus().GetState()] {
			w = n
		}
	}
	if w == nil {
		return "", ""
	}
	if reason = w.GetStatus().GetReason(); reason != "" && len(nodes) > 1 {
		reason = w.Node + ": " + reason
	}
	return w.GetStatus().GetState().String(), reason
}

func (a *app) describeBridge(ctx context.Context, name, output string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var d *adminpb.DescribeBridgeResponse
	err := a.admin(func(c adminpb.AdminClient) (err error) {
		d, err = c.DescribeBridge(ctx, &adminpb.DescribeBridgeRequest{Name: name})
		return err
	})
	switch {
	case err != nil:
		return a.explained(err, "describe bridge %s", name)
	case output != asText:
		return printObject(a.out, output, d)
	}
	return writeBridge(a.out, d)
}

func writeBridge(w io.Writer, d *adminpb.DescribeBridgeResponse) error {
	b := d.GetBridge().GetDesired()
	field(w, 0, "Name", b.GetName())
	field(w, 0, "Service", b.GetService())
	field(w, 0, "Subnets", strings.Join(b.GetSubnets(), ", "))
	field(w, 0, "Gateways", strings.Join(b.GetGateways(), ", "))
	field(w, 0, "Options", strings.Join(bridgeOptions(b), ", "))
	field(w, 0, "Interconnect", interconnect(b))
	field(w, 0, "Uplink", b.GetUplink())
	for _, s := range b.GetStaticMacs() {
		field(w, 0, "Static MAC", s.GetMac()+" at "+s.GetConnection())
	}
	if err := writeNodes(w, d); err != nil {
		return err
	}
	if err := writeMembers(w, d.GetMembers()); err != nil {
		return err
	}
	return writeHere(w, d)
}

func bridgeOptions(b *models.Bridge) (all []string) {
	for _, o := range []struct {
		name string
		on   bool
	}{{"learning", b.Learns()}, {"flooding", b.Floods()}, {"unknown unicast", b.FloodsUnknown()}, {"ARP termination", b.GetArpTermination()}} {
		state := "off"
		if o.on {
			state = "on"
		}
		all = append(all, o.name+" "+state)
	}
	all = append(all, "MAC age "+b.Age().String())
	if b.GetMemberLimit() != 0 {
		all = append(all, fmt.Sprintf("at most %d members on a node", b.MemberLimit))
	}
	return all
}

func writeNodes(w io.Writer, d *adminpb.DescribeBridgeResponse) error {
	fmt.Fprintln(w, "Nodes:")
	t := newTable(w)
	row(t, "  NODE", "STATE", "MEMBERS", "TUNNELS", "VNI", "MTU", "ADDRESSES", "REASON")
	for _, n := range d.GetBridge().GetNodes() {
		s := n.GetStatus()
		row(t, "  "+n.GetNode(), s.GetState().String(), fmt.Sprint(s.GetMembers()), fmt.Sprint(s.GetPeers()), fmt.Sprint(s.GetVni()), fmt.Sprint(s.GetMtu()),
			strings.Join(n.GetAddresses(), ","), s.GetReason())
	}
	return t.Flush()
}

func writeMembers(w io.Writer, members []*adminpb.BridgeMember) error {
	fmt.Fprintln(w, "Members:")
	t := newTable(w)
	row(t, "  NODE", "CONNECTION", "STATE", "INTERFACE", "MAC", "ADDRESSES", "REASON")
	for _, m := range members {
		row(t, "  "+m.GetMember().GetNode(), m.GetMember().GetConnection(), stateName(m.GetStatus()), m.GetStatus().GetClient().GetInterface(),
			m.GetMember().GetMac(), strings.Join(m.GetMember().GetAddresses(), ","), m.GetStatus().GetReason())
	}
	return t.Flush()
}

// writeHere shows what the node that was asked has.
func writeHere(w io.Writer, d *adminpb.DescribeBridgeResponse) error {
	field(w, 0, "Here", d.GetMissing())
	if d.GetMissing() != "" {
		return nil
	}
	field(w, 0, "Named here", d.GetInterface())
	fmt.Fprintln(w, "Ports here:")
	t := newTable(w)
	row(t, "  TO", "INTERFACE", "LINK", "RECEIVED", "SENT", "DROPPED")
	for _, p := range d.GetPorts() {
		link := "down"
		if p.GetUp() {
			link = "up"
		}
		c := p.GetCounters()
		row(t, "  "+placeName(p.GetPlace()), p.GetInterface(), link, fmt.Sprint(c.GetReceivePackets()), fmt.Sprint(c.GetTransmitPackets()), fmt.Sprint(c.GetDrops()))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "MAC table here:")
	t = newTable(w)
	row(t, "  MAC", "AT", "KIND")
	for _, m := range d.GetMacs() {
		kind := "learned"
		if m.GetStatic() {
			kind = "static"
		}
		row(t, "  "+m.GetMac(), placeName(m.GetPlace()), kind)
	}
	return t.Flush()
}

// placeName says where a port leads.
func placeName(p *adminpb.BridgePlace) string {
	switch {
	case p.GetConnection() != "":
		return "member " + p.Connection
	case p.GetPeer() != "":
		return "node at " + p.Peer
	case p.GetMesh():
		return "other nodes"
	case p.GetGateway():
		return "gateway"
	}
	return "?"
}
