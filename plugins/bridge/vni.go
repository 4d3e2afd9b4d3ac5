package bridge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// vniAgain is the pause before a VNI that could not be had is asked for again.
const vniAgain = time.Second

// keepVNI sees to it that a bridge has its VNI while this node has members, and gives it back
// when the bridge is deleted.
func (p *Plugin) keepVNI(ctx context.Context, b *bridge, m *mesh) {
	for {
		select {
		case <-m.work:
		case <-ctx.Done():
			return
		}
		err := p.settleVNI(ctx, b, m)
		if ctx.Err() != nil {
			return
		}
		why := ""
		if err != nil {
			why = err.Error()
			time.AfterFunc(vniAgain, m.kick)
		}
		p.mu.Lock()
		if b.mesh == m && m.vniWhy != why {
			m.vniWhy = why
			p.tell(b)
		}
		p.mu.Unlock()
	}
}

// settleVNI makes what is in etcd be what the record asks for; the watch delivers the result.
func (p *Plugin) settleVNI(ctx context.Context, b *bridge, m *mesh) error {
	p.mu.Lock()
	desired, has, known, deleted := b.desired, m.vni, m.known, b.deleted
	p.mu.Unlock()
	switch {
	case !known || desired == nil && !deleted:
		return nil
	case deleted || !desired.Spans():
		return p.freeVNI(ctx, b.name)
	case has != 0 && (desired.Vni == 0 || desired.Vni == has):
		return nil
	}
	had, err := p.vniOf(ctx, b.name)
	switch {
	case err != nil:
		return err
	case desired.Vni != 0:
		return p.takeVNI(ctx, b.name, desired.Vni, had)
	case had.number != 0:
		return nil // the watch is about to say so
	}
	h := fnv.New32a()
	h.Write([]byte(b.name))
	const count = models.MaxBridgeVNI - models.MinBridgeVNI + 1
	for n, tries := h.Sum32()%count, uint32(0); tries < count; n, tries = (n+1)%count, tries+1 {
		err := p.takeVNI(ctx, b.name, models.MinBridgeVNI+n, had)
		var other *ownedError
		if !errors.As(err, &other) {
			return err
		}
	}
	return errors.New("every VNI is taken")
}

// ownedError says whose a VNI is.
type ownedError struct {
	vni   uint32
	owner string
}

func (e *ownedError) Error() string {
	return fmt.Sprintf("vni: %d is that of bridge %q; choose another, or 0 to have one allocated", e.vni, e.owner)
}

// takeVNI makes a number that of a bridge instead of what it had. What another node has
// settled meanwhile stays.
func (p *Plugin) takeVNI(ctx context.Context, bridge string, n uint32, had vni) error {
	owner, same, err := p.ownerOf(ctx, n)
	if err != nil {
		return err
	}
	if owner != "" && owner != bridge {
		return &ownedError{n, owner}
	}
	data, err := models.Marshal(&models.BridgeVNI{Bridge: bridge, Vni: n})
	if err != nil {
		return err
	}
	var deletes []string
	if old := had.number; old != 0 && old != n {
		deletes = append(deletes, p.Keys.VNI(old))
	}
	_, err = p.Store.WriteIf(ctx, []store.KV{{Key: p.Keys.VNI(n), Revision: same}, {Key: p.Keys.MeshVNI(bridge), Revision: had.revision}},
		[]store.KV{{Key: p.Keys.VNI(n), Value: data}, {Key: p.Keys.MeshVNI(bridge), Value: data}}, deletes)
	return err
}

// Free gives back what a bridge that is deleted has left in etcd; its members keep what is theirs.
func (p *Plugin) Free(ctx context.Context, name string) error { return p.freeVNI(ctx, name) }

// freeVNI gives back what a bridge has.
func (p *Plugin) freeVNI(ctx context.Context, bridge string) error {
	had, err := p.vniOf(ctx, bridge)
	if err != nil || had.number == 0 {
		return err
	}
	_, err = p.Store.WriteIf(ctx, []store.KV{{Key: p.Keys.MeshVNI(bridge), Revision: had.revision}}, nil,
		[]string{p.Keys.MeshVNI(bridge), p.Keys.VNI(had.number)})
	if errors.Is(err, store.ErrConflict) {
		return nil // another node has done it
	}
	return err
}

type vni struct {
	number   uint32
	revision int64
}

// vniOf reads which VNI a bridge has; zero: none.
func (p *Plugin) vniOf(ctx context.Context, bridge string) (v vni, err error) {
	kv, err := p.Store.Get(ctx, p.Keys.MeshVNI(bridge))
	if errors.Is(err, store.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	m := &models.BridgeVNI{}
	if err := models.Unmarshal(kv.Value, m); err != nil {
		p.Log.Warn("a key that is no VNI", "key", kv.Key, "err", err)
	}
	return vni{m.Vni, kv.Revision}, nil
}

// ownerOf reads which bridge a VNI belongs to, and the revision of that. One that was left by
// a bridge which is deleted belongs to none.
func (p *Plugin) ownerOf(ctx context.Context, n uint32) (owner string, revision int64, err error) {
	kv, err := p.Store.Get(ctx, p.Keys.VNI(n))
	if errors.Is(err, store.ErrNotFound) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	m := &models.BridgeVNI{}
	if err := models.Unmarshal(kv.Value, m); err != nil {
		p.Log.Warn("a key that is no VNI", "key", kv.Key, "err", err)
		return "", kv.Revision, nil
	}
	switch _, err := p.Store.Get(ctx, p.Keys.Bridge(m.Bridge)); {
	case errors.Is(err, store.ErrNotFound):
		return "", kv.Revision, nil
	case err != nil:
		return "", 0, err
	}
	return m.Bridge, kv.Revision, nil
}
