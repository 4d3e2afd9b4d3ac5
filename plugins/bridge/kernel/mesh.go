package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Mesh is the spec of the device that leads to all other nodes. Values are compared with ==.
type Mesh struct {
	Bridge string
	Tunnel linux.VXLAN
	MAC    linux.MAC
	MTU    int // bytes
	Treat  linux.BridgePort
	broken bool // found: not finished
}

func meshKey(name string) string { return KindMesh + "/" + name }

// meshes makes them.
type meshes struct{ *Dataplane }

// Dependencies: the bridge.
func (d meshes) Dependencies(_ string, spec Mesh) []string { return []string{bridgeKey(spec.Bridge)} }

// Equal compares by content.
func (d meshes) Equal(found, want Mesh) bool { return found == want }

// Create makes the device, or mends the one that is there. One that is another tunnel is
// deleted first.
func (d meshes) Create(_ context.Context, key string, spec Mesh) error {
	if err := d.create(key, spec); err != nil {
		return fmt.Errorf("tunnels of a bridge: %w", err)
	}
	return nil
}

func (d meshes) create(key string, spec Mesh) error {
	d.forget(key)
	bridge, err := d.index(bridgeKey(spec.Bridge))
	if err != nil {
		return err
	}
	name := d.ns.MeshName(spec.Bridge)
	var l linux.Link
	err = d.own(func(ns *linux.Namespace) (err error) {
		l, err = ns.LinkByName(name)
		if err == nil && !sameTunnel(l, spec) {
			if err = d.ns.DeleteLink(l); err == nil {
				err = linux.ErrNoLink
			}
		}
		if errors.Is(err, linux.ErrNoLink) {
			if err = d.ns.CreateMesh(bridge, name, spec.MAC, spec.MTU, spec.Tunnel); err == nil {
				l, err = ns.LinkByName(name)
			}
		}
		if err == nil && l.Device != linux.Device(spec.Tunnel) {
			err = d.ns.SetMesh(l.Index, spec.Tunnel)
		}
		if err == nil {
			_, err = ns.SetLink(l.Index, linux.Change{Alias: linux.MeshAlias(spec.Bridge), MTU: spec.MTU, Quiet: true})
		}
		return err
	})
	if err == nil {
		_, err = d.ns.SetBridgePort(l.Index, bridge, spec.Treat)
	}
	if err == nil {
		d.note(key, made{l.Index, bridge})
	}
	return err
}

// sameTunnel tells whether a device is that of a spec but for what can be changed.
func sameTunnel(l linux.Link, spec Mesh) bool {
	v, ok := l.Device.(linux.VXLAN)
	v.Learn, v.Age = spec.Tunnel.Learn, spec.Tunnel.Age
	return ok && v == spec.Tunnel && l.MAC == spec.MAC
}

// Update changes in place what does not make another tunnel of it.
func (d meshes) Update(ctx context.Context, key string, old, new Mesh) error {
	was := old.Tunnel
	was.Learn, was.Age = new.Tunnel.Learn, new.Tunnel.Age
	if was != new.Tunnel || old.MAC != new.MAC {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the device.
func (d meshes) Delete(_ context.Context, key string, spec Mesh) error {
	d.forget(key)
	if err := d.remove(d.ns.MeshName(spec.Bridge)); err != nil {
		return fmt.Errorf("tunnels of a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all that are ports of bridges of ours, or were.
func (d meshes) Retrieve(context.Context, iter.Seq2[string, Mesh]) ([]reconcile.Found[Mesh], error) {
	d.forgetAll(isA(KindMesh))
	names, links, err := d.names()
	if err != nil {
		return nil, fmt.Errorf("find tunnels of bridges: %w", err)
	}
	var all []reconcile.Found[Mesh]
	for _, l := range links {
		if !l.Mesh() {
			continue
		}
		name, tagged := linux.ParseBridge(l.Alias)
		if name == "" {
			name = names[l.Master]
		}
		if name == "" || l.Name != d.ns.MeshName(name) {
			continue
		}
		spec := Mesh{Bridge: name, Tunnel: l.Device.(linux.VXLAN), MAC: l.MAC, MTU: l.MTU, Treat: l.Port, broken: !tagged || !l.Up || names[l.Master] != name}
		if !spec.broken {
			d.note(meshKey(name), made{l.Index, l.Master})
		}
		all = append(all, reconcile.Found[Mesh]{Key: meshKey(name), Spec: spec})
	}
	return all, nil
}

// Peer is the spec of another node that a bridge sends to. Values are compared with ==.
type Peer struct {
	Bridge  string
	Address netip.Addr
}

func peerKey(name string, a netip.Addr) string { return KindPeer + "/" + name + "/" + a.String() }

// peers are what the devices send to.
func (p *Dataplane) peers() entries[Peer] {
	return entries[Peer]{p, "tunnels of a bridge",
		func(spec Peer) string { return meshKey(spec.Bridge) },
		func(mesh int, spec Peer) error { return p.ns.AddPeer(mesh, spec.Address) },
		func(mesh int, spec Peer) error { return p.ns.DeletePeer(mesh, spec.Address) },
		p.findPeers}
}

// findPeers finds the peers of all devices.
func (p *Dataplane) findPeers() (all []reconcile.Found[Peer], err error) {
	err = p.tables(func(name string, t table) {
		for _, remotes := range t.remotes {
			for _, r := range remotes {
				if r.MAC == (linux.MAC{}) {
					all = append(all, reconcile.Found[Peer]{Key: peerKey(name, r.Peer), Spec: Peer{Bridge: name, Address: r.Peer}})
				}
			}
		}
	})
	return all, err
}

// table is what a bridge and its tunnels know of MACs.
type table struct {
	macs    []linux.BridgeMAC
	remotes map[int][]linux.Remote
	links   map[int]linux.Link // by index
}

// tables gives those of all bridges of ours.
func (p *Dataplane) tables(each func(name string, t table)) error {
	names, links, err := p.names()
	if err != nil {
		return err
	}
	byIndex := make(map[int]linux.Link, len(links))
	for _, l := range links {
		byIndex[l.Index] = l
	}
	for index, name := range names {
		t := table{links: byIndex}
		if t.macs, t.remotes, err = p.ns.BridgeTables(index); err != nil {
			return err
		}
		each(name, t)
	}
	return nil
}
