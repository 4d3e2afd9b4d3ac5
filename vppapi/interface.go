package vppapi

import (
	"context"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"
)

// Index is VPP's number of an interface (sw_if_index). It means nothing after VPP has
// been restarted.
type Index uint32

// All stands for every interface where a call takes an Index to select by.
const All Index = 1<<32 - 1

// Interface is how VPP shows one.
type Interface struct {
	Index   Index
	Name    string // as in `show interface`: memif3/0, host-pb1c1
	Device  string // its class: "memif interface", "af-packet", …
	Tag     string
	MAC     [6]byte
	MTU     int // bytes of payload, of the layer that it is switched at
	AdminUp bool
	LinkUp  bool
}

// RxMode says how VPP waits for packets.
type RxMode uint8

// The modes, as VPP numbers them (interface_types.api).
const (
	DefaultMode RxMode = 0 // leave it as VPP made it
	Polling     RxMode = 1
	Interrupt   RxMode = 2
	Adaptive    RxMode = 3
)

// ParseRxMode reads polling, interrupt or adaptive; anything else leaves VPP's own.
func ParseRxMode(s string) RxMode {
	return map[string]RxMode{"polling": Polling, "interrupt": Interrupt, "adaptive": Adaptive}[s]
}

// Setup is what every interface of ours gets once it is made.
type Setup struct {
	Tag    string
	MTU    int // bytes; 0: as VPP made it
	RxMode RxMode
	IP     bool    // it carries IP by itself, not Ethernet frames between two ports
	Down   bool    // leave it down: what joins it sets it up
	MAC    [6]byte // of an Ethernet interface that was not made with it; zero: as VPP made it
}

// dumpInterfaces asks for one interface or for All.
func dumpInterfaces(index Index, each func(Interface)) *exchange {
	return dumpBy(&interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(index)}, each)
}

func dumpBy(request *interfaces.SwInterfaceDump, each func(Interface)) *exchange {
	return dump(request, func(d *interfaces.SwInterfaceDetails) {
		i := Interface{
			Index:   Index(d.SwIfIndex),
			Name:    text(d.InterfaceName),
			Device:  text(d.InterfaceDevType),
			Tag:     wholeTag(text(d.Tag)),
			MAC:     d.L2Address,
			AdminUp: d.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0,
			LinkUp:  d.Flags&interface_types.IF_STATUS_API_FLAG_LINK_UP != 0,
		}
		if len(d.Mtu) > 0 {
			i.MTU = int(d.Mtu[0])
		}
		each(i)
	})
}

// Finish gives a new interface its tag, and then all that is wanted of it; it may be
// repeated. A refusal to set the rx-mode is none: VPP sets it only once a
// peer has connected, see [Client.SetRxMode].
func (c *Client) Finish(ctx context.Context, index Index, s Setup) error {
	if err := checkTag(s.Tag); err != nil {
		return err
	}
	calls := s.calls(index)
	// Taken by the goroutine that reads, an answer cannot overtake an event.
	if s.Down {
		return c.call(ctx, append(calls, dumpInterfaces(index, c.inv.put))...)
	}
	return c.settingUp(ctx, append(calls, setUp(index, true), dumpInterfaces(index, c.inv.put))...)
}

// calls are what Finish does, but for setting up.
func (s Setup) calls(index Index) []*exchange {
	i := interface_types.InterfaceIndex(index)
	calls := []*exchange{one(&interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: i, Tag: keptTag(s.Tag)}, &interfaces.SwInterfaceTagAddDelReply{})}
	if s.MTU > 0 {
		calls = append(calls, one(&interfaces.SwInterfaceSetMtu{SwIfIndex: i, Mtu: []uint32{uint32(s.MTU), 0, 0, 0}}, &interfaces.SwInterfaceSetMtuReply{}))
	}
	if s.MAC != [6]byte{} {
		calls = append(calls, one(&interfaces.SwInterfaceSetMacAddress{SwIfIndex: i, MacAddress: s.MAC}, &interfaces.SwInterfaceSetMacAddressReply{}))
	}
	if s.IP {
		calls = append(calls, one(&ip.SwInterfaceIP6EnableDisable{SwIfIndex: i, Enable: true}, &ip.SwInterfaceIP6EnableDisableReply{}, api.VALUE_EXIST))
	}
	if s.RxMode != DefaultMode {
		calls = append(calls, setRxMode(index, s.RxMode))
	}
	return calls
}

// left is what was left for later of interfaces.
func (c *Client) left(indexes ...Index) (calls []*exchange) {
	for _, index := range indexes {
		if s, ok := c.inv.take(index); ok {
			calls = append(calls, s.calls(index)...)
		}
	}
	return calls
}

// raise sets interfaces up that were left down.
func (c *Client) raise(indexes ...Index) (calls []*exchange) {
	for _, index := range indexes {
		calls = append(calls, setUp(index, true), dumpInterfaces(index, c.inv.put))
	}
	return calls
}

// notYet are VPP's refusals of an rx-mode for queues that are not there yet, or that
// know no such mode.
var notYet = []Error{api.UNIMPLEMENTED, api.INVALID_SW_IF_INDEX, api.INVALID_VALUE, api.INVALID_INTERFACE}

func setRxMode(index Index, mode RxMode) *exchange {
	return one(&interfaces.SwInterfaceSetRxMode{SwIfIndex: interface_types.InterfaceIndex(index), Mode: interface_types.RxMode(mode)},
		&interfaces.SwInterfaceSetRxModeReply{}, notYet...)
}

// SetRxMode says how VPP waits for packets of all queues that an interface has now.
func (c *Client) SetRxMode(ctx context.Context, index Index, mode RxMode) error {
	return c.call(ctx, setRxMode(index, mode))
}

func setUp(index Index, up bool) *exchange {
	var flags interface_types.IfStatusFlags
	if up {
		flags = interface_types.IF_STATUS_API_FLAG_ADMIN_UP
	}
	return one(&interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(index), Flags: flags}, &interfaces.SwInterfaceSetFlagsReply{})
}

// hello asks for what is needed before anybody else may call: VPP's version, its workers,
// its events and its interfaces.
func (c *Client) hello(ctx context.Context, k *conn) (version string, workers int, err error) {
	all := map[Index]Interface{}
	list := dumpInterfaces(All, func(i Interface) { all[i.Index] = i }).after(func() { c.inv.learn(all) })
	v, threads := &vpe.ShowVersionReply{}, &vlib.ShowThreadsReply{}
	err = c.exchange(ctx, k,
		one(&vpe.ShowVersion{}, v),
		one(&vlib.ShowThreads{}, threads),
		one(&interfaces.WantInterfaceEvents{EnableDisable: 1}, &interfaces.WantInterfaceEventsReply{}),
		one(&bfd.WantBfdEvents{EnableDisable: true}, &bfd.WantBfdEventsReply{}),
		list)
	return text(v.Version), countWorkers(threads.ThreadData), err
}

// text cuts a string of the API at its end.
func text(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}
