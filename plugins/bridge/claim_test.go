package bridge

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// gate is an etcd that answers only when it is let.
type gate struct {
	Store
	asked, answer chan struct{}
}

func (g gate) Get(ctx context.Context, key string) (store.KV, error) {
	close(g.asked)
	<-g.answer
	return g.Store.Get(ctx, key)
}

// Of two claims of one member the first fails while the second waits: what that takes is given
// back with the member.
func TestAClaimAfterOneThatFailed(t *testing.T) {
	etcd, keys := newEtcd(t), models.NewKeys("/t/", "n1")
	g := gate{etcd, make(chan struct{}), make(chan struct{})}
	p := New(Options{Keys: keys, Store: g})
	put(t, etcd, keys.Address("lan1", "10.60.0.5"), `{"node":"n2","connection":"b"}`)
	claim := func(address string) <-chan error {
		done := make(chan error, 1)
		go func() {
			done <- p.claim(t.Context(), "lan1", &models.Member{Node: "n1", Connection: "a", Addresses: []string{address}})
		}()
		return done
	}
	first := claim("10.60.0.5/24")
	<-g.asked
	second := claim("10.60.0.6/24")
	time.Sleep(50 * time.Millisecond) // nothing tells that it waits
	close(g.answer)
	var taken *takenError
	if err := <-first; !errors.As(err, &taken) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	if err := p.release(t.Context(), "lan1", "a"); err != nil {
		t.Error(err)
	}
	if left := etcdKeys(t, etcd, keys.Addresses("lan1")); left != "10.60.0.5" {
		t.Errorf("left is %q", left)
	}
}
