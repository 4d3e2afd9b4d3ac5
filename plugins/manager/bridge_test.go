package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// segment is a node's one bridge, as far as this room knows bridges.
type segment struct {
	mu      sync.Mutex
	m       *Manager
	service string
	members map[string][]string // addresses by connection
	refuse  error
}

// serve has it answer a network service; none if it is empty.
func (s *segment) serve(service string) {
	s.mu.Lock()
	s.service = service
	m := s.m
	s.mu.Unlock()
	s.tell(m)
}

// tell tells a manager, and from then on each change.
func (s *segment) tell(m *Manager) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = m
	services := map[string]string{}
	if s.service != "" {
		services[s.service] = "lan1"
	}
	m.Serves(services)
}

func (s *segment) Admit(_ context.Context, bridge, id string, asked []string) (*models.Member, []string, uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, nil, 0, s.refuse
	}
	if s.members[id] == nil {
		s.members[id] = append([]string{fmt.Sprintf("10.60.0.%d/24", 10+len(s.members))}, asked...)
	}
	return &models.Member{Connection: id, Mac: "02:00:00:00:00:01", Addresses: s.members[id]}, []string{"10.60.0.1/24"}, 1450, nil
}

func (s *segment) Release(_, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, id)
}

func (s *segment) has() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// bridge is the mechanism of its end.
type bridge struct{ plug }

func (bridge) Complete(x *models.CrossConnect) (*models.CrossConnect, error) { return x, nil }
func (bridge) Member(*models.CrossConnect, models.Port) ([]reconcile.Value, error) {
	return nil, nil
}

func TestABridgeAnswersLikeAnEndpoint(t *testing.T) {
	a := newLab(t).start("a")
	lan := a.bridges
	lan.serve("lan")
	a.wants(strings.Replace(durable1, `"fw"`, `"lan"`, 1))
	s := a.durable("d1", "up", up("bridge/lan1"))
	if s.Node != "a" || s.Tunnel != "" || !slices.Equal(s.Addresses, []string{"10.60.0.10/24"}) || !slices.Equal(s.PeerAddresses, []string{"10.60.0.1/24"}) {
		t.Errorf("status %v", s)
	}
	c := a.connect("c1", "lan")
	if c.Payload != models.Ethernet || c.Context.MTU != 1450 || c.Context.EthernetContext.SrcMac != "02:00:00:00:00:01" || c.NetworkServiceEndpointName != "bridge/lan1" {
		t.Errorf("the reply is %v", c)
	}
	x, _, _ := a.m.known("c1")
	if x.Endpoint.Mechanism.Type != "BRIDGE" || x.Endpoint.Mechanism.Parameters["bridge"] != "lan1" || x.Request.EndpointUrl != "bridge://lan1" {
		t.Errorf("the record is %v", x)
	}
	a.restart()
	if again := a.connect("c1", "lan"); !slices.Equal(again.Context.IpContext.SrcIpAddrs, c.Context.IpContext.SrcIpAddrs) {
		t.Errorf("after a restart: %v", again)
	}
	a.close(c)
	a.has(1) // that of d1
}

// What came to nothing takes nothing from the bridge.
func TestABridgeGetsBackWhatCameToNothing(t *testing.T) {
	a := newLab(t).start("a")
	lan := a.bridges
	lan.serve("lan")
	a.plane.break_(errors.New("broken"))
	if _, err := a.request(ask("c1", "lan")); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("error %v", err)
	}
	if has := lan.has(); len(has) > 0 {
		t.Errorf("%v have addresses", has)
	}
	a.plane.break_(nil)
	for _, c := range []struct {
		refuse error
		code   codes.Code
	}{{fmt.Errorf("lan1 %w", models.ErrFull), codes.ResourceExhausted}, {errors.New("10.60.0.5 is that of another"), codes.FailedPrecondition}} {
		lan.mu.Lock()
		lan.refuse = c.refuse
		lan.mu.Unlock()
		if _, err := a.request(ask("c1", "lan")); status.Code(err) != c.code || !strings.Contains(err.Error(), c.refuse.Error()) {
			t.Errorf("error %v, want %s: %v", err, c.code, c.refuse)
		}
	}
	lan.serve("")
	if _, err := a.request(ask("c1", "lan")); status.Code(err) != codes.NotFound {
		t.Errorf("nobody serves it: %v", err)
	}
}

// A bridge is found like what is registered, and never twice.
func TestABridgeIsInTheRegistry(t *testing.T) {
	a := newLab(t).start("a")
	services, endpoints, changes, stop := a.m.WatchRegistry()
	defer stop()
	if len(services)+len(endpoints) > 0 {
		t.Fatalf("there are %v, %v", services, endpoints)
	}
	told := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case c := <-changes:
				got := c.Service.GetName() + c.Endpoint.GetName()
				if c.Deleted {
					got = "no " + got
				}
				if got != w {
					t.Errorf("told %s, want %s", got, w)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("not told %s", w)
			}
		}
	}
	a.bridges.serve("lan")
	told("lan", "bridge/lan1")
	a.bridges.serve("wan")
	told("no bridge/lan1", "no lan", "wan", "bridge/lan1")
	a.bridges.serve("wan") // nothing new
	put, forget := func() { a.etcd.Put(t.Context(), a.keys.Service("wan"), []byte(`{"name":"wan","payload":"IP"}`)) }, func() { a.etcd.Delete(t.Context(), a.keys.Service("wan")) }
	put()
	told("wan")
	if services, endpoints, _, stop := a.m.WatchRegistry(); len(services) != 1 || services[0].Payload != models.IP || len(endpoints) != 1 || endpoints[0].Url != "bridge://lan1" {
		t.Errorf("there are %v, %v", services, endpoints)
	} else {
		stop()
	}
	forget()
	told("wan") // the bridge's own
	put()
	told("wan")
	a.bridges.serve("")
	told("no bridge/lan1")
	forget()
	told("no wan")
}
