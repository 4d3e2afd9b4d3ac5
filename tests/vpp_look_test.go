package tests

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// somebody is another client of a VPP, who changes what is not his.
type somebody struct {
	*vppapi.Client
	t *testing.T
}

func newSomebody(t *testing.T, socket string) somebody {
	c := vppapi.New(vppapi.Options{Socket: socket, Name: "somebody"})
	c.Start(t.Context())
	t.Cleanup(c.Stop)
	return somebody{c, t}
}

// index is VPP's number of one side's interface.
func (s somebody) index(id, side string) vppapi.Index {
	s.t.Helper()
	if _, err := s.Refresh(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	i, ok := s.Tagged("patchbay:" + id + ":" + side)
	if !ok {
		s.t.Fatalf("VPP has no interface of the %s of %s", side, id)
	}
	return i.Index
}

// VPP tells nobody of a join that is taken away, of half of one, or of a tag: they are as
// before after the next look, without a restart, and nothing else is touched by it.
func TestSilentDamageIsMendedByALook(t *testing.T) {
	on := map[string]func(t *testing.T) (*lab.Agent, string){
		"fake": func(t *testing.T) (*lab.Agent, string) {
			socket := fakeSocket(t)
			startFake(t, socket, vppfake.Without(vppapi.TapPlugin))
			return lab.StartAgent(t, append(onSocket(socket, "vpp"), lab.With("vpp.look_every", "1"))...), socket
		},
		"vpp": func(t *testing.T) (*lab.Agent, string) {
			v := vpptest.Start(t)
			return lab.StartAgent(t, lab.OnVPP(v), lab.With("vpp.look_every", "1")), v.APISocket
		},
	}
	for name, start := range on {
		t.Run(name, func(t *testing.T) {
			a, socket := start(t)
			connectEnds(t, a, "l2", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
			connectEnds(t, a, "l3", "IP", 0, end{mechanism: "MEMIF"}, kernelEnd(t, "nsm0", "10.60.0.1/32"))
			connectEnds(t, a, "vhost", "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
			s := newSomebody(t, socket)
			whole, err := vppWorld(s.Client)
			if err != nil {
				t.Fatal(err)
			}
			before := a.Operations(t)
			await := func(what string) {
				t.Helper()
				lab.Eventually(t, 10*time.Second, what+" to be mended", func() error {
					if now, err := vppWorld(s.Client); err != nil || now != whole {
						return fmt.Errorf("VPP has:\n%s\nwant:\n%s (%v)", now, whole, err)
					}
					return nil
				})
			}
			ctx := context.Background()
			tag := func(id string) func() error {
				return func() error { return s.Finish(ctx, s.index(id, "client"), vppapi.Setup{Tag: "mine"}) }
			}
			for _, damage := range []struct {
				name string
				do   func() error
			}{
				{"a join", func() error { return s.DisconnectL2(ctx, s.index("l2", "client"), s.index("l2", "endpoint")) }},
				{"half a join", func() error { return s.DisconnectL2(ctx, s.index("l2", "client")) }},
				{"a path", func() error {
					paths, _, err := s.L3Connections(ctx)
					if err != nil || len(paths) == 0 {
						return fmt.Errorf("paths %v, %w", paths, err)
					}
					return s.DisconnectL3(ctx, nil, paths[:1])
				}},
				{"all neighbours", func() error {
					_, neighbors, err := s.L3Connections(ctx)
					if err != nil || len(neighbors) == 0 {
						return fmt.Errorf("neighbours %v, %w", neighbors, err)
					}
					return s.DisconnectL3(ctx, neighbors, nil)
				}},
				{"the tag of a memif", tag("l2")},
				{"the tag of a vhost-user port", tag("vhost")},
			} {
				if err := damage.do(); err != nil {
					t.Fatalf("%s: %v", damage.name, err)
				}
				if now, err := vppWorld(s.Client); err != nil || now == whole {
					t.Logf("%s is mended at once: %v", damage.name, err)
				}
				await(damage.name)
			}
			looks := func() float64 {
				return scrape(a)[`patchbay_dataplane_calls_total{call="l2_xconnect_dump",result="ok"}`]
			}
			look := func() {
				seen := looks()
				lab.Eventually(t, 20*time.Second, "two more looks", func() error {
					if n := looks(); n < seen+2 {
						return fmt.Errorf("%v after %v", n, seen)
					}
					return nil
				})
			}
			look() // what depends on what was mended last may still be under way
			mended := a.Operations(t)
			look()
			if n := a.Operations(t); before == mended || n != mended {
				t.Errorf("%d operations before the damage, %d after it, %d after two more looks", before, mended, n)
			}
		})
	}
}
