package vppfake

import (
	"reflect"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"

	"go.patchbay.dev/vppapi"
)

// message is one request that is understood.
type message struct {
	name    string
	mutates bool
	serve   func(*call, []byte) []api.Message
}

// call is where a request is carried out.
type call struct {
	v    *VPP
	w    *world
	c    *client
	code int32 // the code to refuse it with
}

// table is what a run of VPP tells a client of its messages.
type table struct {
	names []memclnt.MessageTableEntry
	ids   map[string]uint16
	byID  map[uint16]*message
	o     options
	next  uint16
}

// newTable numbers the messages. The numbers differ from run to run, so that nobody
// relies on them.
func newTable(o options, run int) *table {
	t := &table{ids: map[string]uint16{}, byID: map[uint16]*message{}, o: o, next: uint16(100 + 7*(run%100))}
	core(t)
	forwarding(t)
	addressMessages(t)
	nodeMessages(t)
	bridgeMessages(t)
	bviMessages(t)
	bfdMessages(t)
	for plugin, add := range map[vppapi.Plugin]func(*table){
		vppapi.MemifPlugin:     memifMessages,
		vppapi.VhostPlugin:     vhostMessages,
		vppapi.AFPacketPlugin:  hostifMessages,
		vppapi.L3XCPlugin:      l3xcMessages,
		vppapi.TapPlugin:       tapMessages,
		vppapi.VXLANPlugin:     vxlanMessages,
		vppapi.GENEVEPlugin:    geneveMessages,
		vppapi.GREPlugin:       greMessages,
		vppapi.IPIPPlugin:      ipipMessages,
		vppapi.WireGuardPlugin: wireguardMessages,
		vppapi.DevPlugin:       devMessages,
	} {
		if !o.without[plugin] {
			add(t)
		}
	}
	return t
}

func (t *table) add(m api.Message) uint16 {
	name, crc := m.GetMessageName(), m.GetCrcString()
	if other, ok := t.o.crcs[name]; ok {
		crc = other
	}
	t.next++
	t.ids[name] = t.next
	t.names = append(t.names, memclnt.MessageTableEntry{Index: t.next, Name: name + "_" + crc})
	return t.next
}

// pointer is an api.Message as the type that it points to.
type pointer[T any] interface {
	*T
	api.Message
}

// on adds a request with one reply. What serve returns is the code in the reply; a
// mutating request can be refused.
func on[Q, R any, QP pointer[Q], RP pointer[R]](t *table, mutates bool, serve func(*call, QP, RP) int32) {
	request := QP(new(Q))
	t.add(RP(new(R)))
	t.byID[t.add(request)] = &message{request.GetMessageName(), mutates, func(at *call, body []byte) []api.Message {
		q, r := QP(new(Q)), RP(new(R))
		if codec.DecodeMsg(body, q) != nil {
			return nil
		}
		code := at.code
		if code == 0 {
			code = serve(at, q, r)
		}
		if f := reflect.ValueOf(r).Elem().FieldByName("Retval"); f.IsValid() {
			f.SetInt(int64(code))
		}
		return []api.Message{r}
	}}
}

// list adds a dump.
func list[Q, D any, QP pointer[Q], DP pointer[D]](t *table, serve func(*call, QP) []DP) {
	request := QP(new(Q))
	t.add(DP(new(D)))
	t.byID[t.add(request)] = &message{request.GetMessageName(), false, func(at *call, body []byte) (all []api.Message) {
		q := QP(new(Q))
		if codec.DecodeMsg(body, q) != nil {
			return nil
		}
		for _, d := range serve(at, q) {
			all = append(all, d)
		}
		return all
	}}
}

// sorted are the values of a map by their keys.
func sorted[K ~uint32, V any](m map[K]V) []V {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var all []V
	for _, k := range keys {
		all = append(all, m[k])
	}
	return all
}
