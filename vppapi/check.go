package vppapi

import (
	"fmt"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
	"go.fd.io/govpp/binapi/bfd"
	"go.fd.io/govpp/binapi/dev"
	"go.fd.io/govpp/binapi/geneve"
	"go.fd.io/govpp/binapi/gre"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip6_nd"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ipip"
	"go.fd.io/govpp/binapi/l2"
	"go.fd.io/govpp/binapi/l3xc"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/memif"
	"go.fd.io/govpp/binapi/tapv2"
	"go.fd.io/govpp/binapi/vhost_user"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"
	"go.fd.io/govpp/binapi/wireguard"
)

// core are messages that every VPP has and whose form this agent relies on. Those of
// plugins are looked at by [Client.Missing], for a plugin need not be loaded.
var core = []api.Message{
	&memclnt.ControlPing{}, &memclnt.ControlPingReply{},
	&interfaces.SwInterfaceDump{}, &interfaces.SwInterfaceDetails{}, &interfaces.SwInterfaceEvent{},
	&interfaces.WantInterfaceEvents{}, &interfaces.SwInterfaceSetFlags{}, &interfaces.SwInterfaceTagAddDel{},
	&interfaces.SwInterfaceSetMtu{}, &interfaces.SwInterfaceSetRxMode{}, &interfaces.SwInterfaceSetRxPlacement{},
	&interfaces.SwInterfaceRxPlacementDump{}, &interfaces.SwInterfaceRxPlacementDetails{}, &vlib.ShowThreads{}, &vlib.ShowThreadsReply{},
	&l2.SwInterfaceSetL2Xconnect{}, &l2.L2XconnectDump{}, &l2.L2XconnectDetails{},
	&l2.BridgeDomainAddDelV2{}, &l2.BridgeFlags{}, &l2.BridgeDomainSetMacAge{}, &l2.BridgeDomainDump{}, &l2.BridgeDomainDetails{}, &l2.SwInterfaceSetL2Bridge{},
	&l2.L2fibAddDel{}, &l2.L2FibTableDump{}, &l2.L2FibTableDetails{}, &l2.BdIPMacAddDel{}, &l2.BdIPMacDump{}, &l2.BdIPMacDetails{},
	&l2.BviCreate{}, &l2.BviDelete{}, &ip6_nd.SwInterfaceIP6ndRaConfig{}, &interfaces.SwInterfaceAddDelAddress{}, &ip.IPAddressDump{}, &ip.IPAddressDetails{},
	&ip.SwInterfaceIP6EnableDisable{}, &ip_neighbor.IPNeighborAddDel{}, &ip_neighbor.IPNeighborDump{},
	&interfaces.SwInterfaceSetMacAddress{}, &ip.IPRouteLookup{}, &ip.IPRouteLookupReply{},
	&bfd.BfdUDPEnableMultihop{}, &bfd.BfdUDPUpd{}, &bfd.BfdUDPDel{}, &bfd.BfdUDPSessionDump{}, &bfd.BfdUDPSessionDetails{},
	&bfd.WantBfdEvents{}, &bfd.BfdUDPSessionEvent{},
}

// check says which of the core's messages VPP has in another form.
func (k *conn) check() error {
	var differ []string
	for _, m := range core {
		if _, ok := k.id(m); !ok {
			differ = append(differ, k.missing(m))
		}
	}
	if differ == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(differ, ", "))
}

// missing says how VPP lacks a message.
func (k *conn) missing(m api.Message) string {
	for name := range k.ids {
		if i := strings.LastIndexByte(name, '_'); i > 0 && name[:i] == m.GetMessageName() {
			return fmt.Sprintf("message %s differs (%s, not %s)", name[:i], name[i+1:], m.GetCrcString())
		}
	}
	return "message " + m.GetMessageName() + " is not there"
}

// Plugin is a part of VPP that may be absent.
type Plugin string

// The plugins that mechanisms need.
const (
	MemifPlugin     Plugin = "memif"
	VhostPlugin     Plugin = "vhost_user"
	AFPacketPlugin  Plugin = "af_packet"
	L3XCPlugin      Plugin = "l3xc"
	TapPlugin       Plugin = "tapv2" // a part of its core, in this release
	VXLANPlugin     Plugin = "vxlan"
	GREPlugin       Plugin = "gre"
	GENEVEPlugin    Plugin = "geneve"
	IPIPPlugin      Plugin = "ipip" // as tapv2
	WireGuardPlugin Plugin = "wireguard"
	DevPlugin       Plugin = "dev" // as tapv2; the drivers are plugins
)

// ofPlugin are the messages of each plugin whose form this agent relies on.
var ofPlugin = map[Plugin][]api.Message{
	MemifPlugin: {
		&memif.MemifCreateV2{}, &memif.MemifDelete{}, &memif.MemifDump{}, &memif.MemifDetails{},
		&memif.MemifSocketFilenameAddDelV2{}, &memif.MemifSocketFilenameDump{}, &memif.MemifSocketFilenameDetails{},
	},
	VhostPlugin: {
		&vhost_user.CreateVhostUserIfV2{}, &vhost_user.DeleteVhostUserIf{},
		&vhost_user.SwInterfaceVhostUserDump{}, &vhost_user.SwInterfaceVhostUserDetails{},
	},
	AFPacketPlugin: {
		&af_packet.AfPacketCreateV3{}, &af_packet.AfPacketDelete{}, &af_packet.AfPacketDump{}, &af_packet.AfPacketDetails{},
	},
	TapPlugin: {
		&tapv2.TapCreateV3{}, &tapv2.TapDeleteV2{}, &tapv2.SwInterfaceTapV2Dump{}, &tapv2.SwInterfaceTapV2Details{},
	},
	VXLANPlugin: {
		&vxlan.VxlanAddDelTunnelV3{}, &vxlan.VxlanTunnelV2Dump{}, &vxlan.VxlanTunnelV2Details{}, &vlib.AddNodeNext{}, &vlib.AddNodeNextReply{},
	},
	GREPlugin: {&gre.GreTunnelAddDelV2{}, &gre.GreTunnelDumpV2{}, &gre.GreTunnelDetailsV2{}},
	GENEVEPlugin: {
		&geneve.GeneveAddDelTunnel2{}, &geneve.GeneveTunnelDump{}, &geneve.GeneveTunnelDetails{}, &vlib.AddNodeNext{}, &vlib.AddNodeNextReply{},
	},
	IPIPPlugin: {&ipip.IpipAddTunnel{}, &ipip.IpipDelTunnel{}, &ipip.IpipTunnelDump{}, &ipip.IpipTunnelDetails{}},
	WireGuardPlugin: {
		&wireguard.WireguardInterfaceCreate{}, &wireguard.WireguardInterfaceDelete{}, &wireguard.WireguardInterfaceDump{}, &wireguard.WireguardInterfaceDetails{},
		&wireguard.WireguardPeerAdd{}, &wireguard.WireguardPeersDump{}, &wireguard.WireguardPeersDetails{},
	},
	DevPlugin:  {&dev.DevAttach{}, &dev.DevAttachReply{}, &dev.DevCreatePortIf{}, &dev.DevCreatePortIfReply{}, &dev.DevDetach{}, &dev.DevDetachReply{}},
	L3XCPlugin: {&l3xc.L3xcUpdate{}, &l3xc.L3xcDel{}, &l3xc.L3xcDump{}, &l3xc.L3xcDetails{}},
}

// Missing says why VPP cannot serve what a plugin brings, as the rest of a sentence that
// begins "node n1"; empty: it can.
func (c *Client) Missing(p Plugin) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return "has no VPP: " + strings.TrimPrefix(c.why.Error(), ErrAway.Error()+": ")
	}
	for _, m := range ofPlugin[p] {
		if _, ok := c.conn.id(m); !ok {
			return fmt.Sprintf("has a VPP without the plugin %s of release %s: %s", p, Release, c.conn.missing(m))
		}
	}
	return ""
}
