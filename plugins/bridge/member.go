package bridge

import (
	"context"
	"iter"
	"slices"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// Kinds of values and facts, the beginnings of their keys.
const (
	KindMember = "bridge-member" // bridge-member/<bridge>/<id>: what a member has in etcd
	KindNode   = "bridge-node"   // bridge-node/<bridge>: that this node has members
	KindBridge = "bridge"        // bridge/<bridge>: a fact
)

// Membership is the spec of a member: what no other member of the bridge may have.
type Membership struct {
	Bridge, ID string
	MAC        string
	Addresses  []string // in CIDR form
	Unknown    bool     // there is no such bridge
}

func memberKey(bridge, id string) string { return KindMember + "/" + bridge + "/" + id }

// members is the descriptor of memberships; their world is etcd.
type members struct{ *Plugin }

// Dependencies are the bridge while it is not there; then it is the port that needs it.
func (d members) Dependencies(_ string, m Membership) []string {
	if m.Unknown {
		return []string{KindBridge + "/" + m.Bridge}
	}
	return nil
}

func (d members) Equal(found, want Membership) bool {
	return found.MAC == want.MAC && slices.Equal(found.Addresses, want.Addresses)
}

func (d members) Create(ctx context.Context, _ string, m Membership) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return d.claim(ctx, m.Bridge, &models.Member{Node: d.Keys.Node, Connection: m.ID, Mac: m.MAC, Addresses: m.Addresses})
}

func (d members) Update(ctx context.Context, key string, _, m Membership) error {
	return d.Create(ctx, key, m)
}

func (d members) Delete(ctx context.Context, _ string, m Membership) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return d.release(ctx, m.Bridge, m.ID)
}

// Retrieve finds what this node's members have.
func (d members) Retrieve(ctx context.Context, _ iter.Seq2[string, Membership]) ([]reconcile.Found[Membership], error) {
	kvs, _, err := d.Store.List(ctx, d.Keys.Members())
	if err != nil {
		return nil, err
	}
	var all []reconcile.Found[Membership]
	for _, kv := range kvs {
		bridge, id, _ := strings.Cut(strings.TrimPrefix(kv.Key, d.Keys.Members()), "/")
		m := &models.Member{}
		if err := models.Unmarshal(kv.Value, m); err != nil || m.Connection != id {
			d.Log.Warn("a key that is no member", "key", kv.Key, "err", err)
			continue
		}
		d.mu.Lock()
		if d.claims[bridge] == nil {
			d.claims[bridge] = map[string]*claim{}
		}
		if d.claims[bridge][id] == nil {
			d.claims[bridge][id] = &claim{member: m}
		}
		d.mu.Unlock()
		all = append(all, reconcile.Found[Membership]{Key: memberKey(bridge, id), Spec: Membership{Bridge: bridge, ID: id, MAC: m.Mac, Addresses: m.Addresses}})
	}
	return all, nil
}

// missing are the facts of bridges being there: what waits for one is rendered anew when it comes.
type missing struct{}

func (missing) Watch(string) bool { return false }
func (missing) Unwatch(string)    {}
