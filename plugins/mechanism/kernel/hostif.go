package kernel

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// HostIf is the spec of the interface by which VPP sends and receives on the outer end of
// a workload's pair. Values are compared with ==.
type HostIf struct {
	Tag    string
	Veth   string // key of the pair
	Name   string // the kernel's, of the outer end
	MAC    [6]byte
	MTU    int  // bytes
	IP     bool // the payload is IP
	broken bool // found: not tagged, or not up
}

func hostKey(tag linux.Tag) string { return KindHostIf + "/" + tag.ID + "/" + string(tag.Side) }

// ethernetOverhead is what a frame has beside its payload: header and a VLAN tag, bytes.
const ethernetOverhead = 18

type hostDescriptor struct{ *Mechanism }

// Dependencies: the pair.
func (d hostDescriptor) Dependencies(_ string, spec HostIf) []string {
	if spec.Veth == "" {
		return nil
	}
	return []string{spec.Veth}
}

// Equal compares by content.
func (d hostDescriptor) Equal(found, want HostIf) bool { return found == want }

// Create makes the interface. One that is there already may belong to a pair that is gone,
// which VPP does not say: it is made anew.
func (d hostDescriptor) Create(ctx context.Context, key string, spec HostIf) error {
	if err := d.createHostIf(ctx, key, spec); err != nil {
		return fmt.Errorf("host interface: %w", err)
	}
	return nil
}

func (d hostDescriptor) createHostIf(ctx context.Context, key string, spec HostIf) error {
	done, err := d.room()
	if err != nil {
		return err
	}
	defer done()
	d.making <- struct{}{}
	defer func() { <-d.making }()
	h := vppapi.HostIf{Name: spec.Name, MAC: spec.MAC, Frame: spec.MTU + ethernetOverhead}
	index, err := d.vpp.CreateHostIf(ctx, h)
	if vppapi.Exists(err) {
		if err = d.vpp.DeleteHostIf(ctx, index, spec.Name); err == nil {
			index, err = d.vpp.CreateHostIf(ctx, h)
		}
	}
	if err != nil {
		return err
	}
	return d.finishHostIf(ctx, key, spec, index)
}

// maxMaking is how many are made at the same time. Packets come from the moment when VPP
// makes one, and are taken only once it polls and is up; sixteen on which packets wait
// keep VPP 25.10's main thread from everything else for ever (VPP: src/vlib/file.c,
// vlib_file_poll). So none is left down, either.
const maxMaking = 4

// finishHostIf sets what can be changed in place. Polling is set before the interface is
// up: in interrupt mode, packets wait for longer.
func (d hostDescriptor) finishHostIf(ctx context.Context, key string, spec HostIf, index vppapi.Index) error {
	err := d.vpp.Finish(ctx, index, vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, RxMode: vppapi.Polling, IP: spec.IP})
	if err == nil {
		d.ports.Add(spec.Tag, key)
	}
	return err
}

// Update mends in place what it can.
func (d hostDescriptor) Update(ctx context.Context, key string, old, new HostIf) error {
	port, ok := d.vpp.Tagged(new.Tag)
	same := old
	same.broken = false
	if !ok || same != new {
		return reconcile.ErrRecreate
	}
	return d.finishHostIf(ctx, key, new, port.Index)
}

// Delete deletes the interface; it does not matter whether the pair is there.
func (d hostDescriptor) Delete(ctx context.Context, _ string, spec HostIf) error {
	d.ports.Drop(spec.Tag)
	if d.vpp.Gone() {
		return nil // and nothing of it; or it is looked at when it is back
	}
	port, _ := d.vpp.Tagged(spec.Tag)
	if err := d.vpp.DeleteHostIf(ctx, port.Index, spec.Name); err != nil {
		return fmt.Errorf("host interface: %w", err)
	}
	return nil
}

// outer are the names that outer ends have.
var outer = regexp.MustCompile(`^pb[0-9a-f]{10}$`)

// Retrieve finds all interfaces of ours: by their tag or, if the agent died before it
// could set one, by the name of the outer end.
func (d hostDescriptor) Retrieve(ctx context.Context, want iter.Seq2[string, HostIf]) ([]reconcile.Found[HostIf], error) {
	if d.vpp.Gone() || d.vpp.Missing(vppapi.AFPacketPlugin) != "" {
		d.ports.Clear()
		return nil, nil
	}
	interfaces, err := d.vpp.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	names, err := d.vpp.HostIfs(ctx)
	if err != nil {
		return nil, err
	}
	keys, byName := map[string]string{}, map[string]HostIf{}
	for key, spec := range want {
		keys[spec.Name], byName[spec.Name] = key, spec
	}
	var all []reconcile.Found[HostIf]
	d.ports.Clear()
	for name, index := range names {
		if found, ok := describeHostIf(name, interfaces[index], keys[name], byName[name]); ok {
			all = append(all, found)
			if !found.Spec.broken {
				d.ports.Add(found.Spec.Tag, found.Key)
			}
		}
	}
	return all, nil
}

// describeHostIf tells what an interface is, if it is ours; key and want are what is
// wanted of that name.
func describeHostIf(name string, i vppapi.Interface, key string, want HostIf) (found reconcile.Found[HostIf], ok bool) {
	tag, tagged := linux.ParseTag(i.Tag)
	if !tagged && i.Tag != "" || !outer.MatchString(name) {
		return found, false // somebody else's, or on the interface of a virtual function
	}
	spec := HostIf{Tag: i.Tag, Veth: want.Veth, Name: name, MAC: i.MAC, MTU: i.MTU, IP: want.IP, broken: !tagged || !i.AdminUp}
	switch {
	case key != "" && (!tagged || want.Tag == i.Tag):
		spec.Tag = want.Tag
	case tagged:
		key = hostKey(tag)
	default:
		key = KindHostIf + "/:" + strings.TrimPrefix(name, "pb")
	}
	return reconcile.Found[HostIf]{Key: key, Spec: spec}, true
}
