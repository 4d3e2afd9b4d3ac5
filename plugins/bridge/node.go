package bridge

import (
	"context"
	"iter"
	"slices"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// writeTimeout bounds one write of a descriptor's; what fails is tried again.
const writeTimeout = 5 * time.Second

// Presence is the spec of what this node says to the others: that it has members of a bridge,
// and where its tunnels end. It is on no lease: what it has programmed goes on while the
// agent, or etcd, is away, and the others are to leave it alone.
type Presence struct {
	Bridge    string
	Addresses []string
}

// nodes is the descriptor of presences; their world is etcd.
type nodes struct{ *Plugin }

func (d nodes) Dependencies(string, Presence) []string { return nil }
func (d nodes) Equal(a, b Presence) bool               { return slices.Equal(a.Addresses, b.Addresses) }

func (d nodes) Create(ctx context.Context, _ string, n Presence) error {
	data, err := models.Marshal(&models.BridgeNode{Node: d.Keys.Node, Addresses: n.Addresses})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = d.Store.Write(ctx, []store.KV{{Key: d.Keys.MeshNode(n.Bridge), Value: data}, {Key: d.Keys.NodeBridge(n.Bridge), Value: data}}, nil)
	return err
}

func (d nodes) Update(ctx context.Context, key string, _, n Presence) error {
	return d.Create(ctx, key, n)
}

func (d nodes) Delete(ctx context.Context, _ string, n Presence) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := d.Store.Write(ctx, nil, []string{d.Keys.MeshNode(n.Bridge), d.Keys.NodeBridge(n.Bridge)})
	return err
}

func (d nodes) Retrieve(ctx context.Context, _ iter.Seq2[string, Presence]) ([]reconcile.Found[Presence], error) {
	kvs, _, err := d.Store.List(ctx, d.Keys.NodeBridges())
	if err != nil {
		return nil, err
	}
	var all []reconcile.Found[Presence]
	for _, kv := range kvs {
		name, err := models.Name(d.Keys.NodeBridges(), kv.Key)
		n := &models.BridgeNode{}
		if err == nil {
			err = models.Unmarshal(kv.Value, n)
		}
		if err != nil {
			d.Log.Warn("a key that is no bridge", "key", kv.Key, "err", err)
			continue
		}
		all = append(all, reconcile.Found[Presence]{Key: KindNode + "/" + name, Spec: Presence{name, n.Addresses}})
	}
	return all, nil
}
