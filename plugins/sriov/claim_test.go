package sriov

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.patchbay.dev/plugins/sriov/sriovtest"
)

func TestAClaimGivesTheDeviceOfItsToken(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 2, 8)
	p := start(t, m, radio)
	for _, c := range []struct{ owner, token, want string }{
		{"c1/client", "T2", card.VF(1)},
		{"c1/client", "T2", card.VF(1)}, // the same again
		{"c2/client", "T2", `device 0000:01:10.1 is in use by the client of connection "c1"`},
		{"c2/client", "T9", "the token was not handed out on this node"},
		{"c2/client", "../../etc/shadow", "the token is none of this node's device plugin (16 bytes)"},
		{"c2/client", strings.Repeat("x", 1<<20), "(1048576 bytes)"},
		{"c2/client", "T1\x00", "the token is none"},
		{"c2/client", "T1", card.VF(0)},
	} {
		got := claim(p, c.owner, Want{Token: c.token, NUMA: -1})
		if !strings.HasPrefix(got, c.want) && !strings.Contains(got, c.want) || len(got) > 300 {
			t.Errorf("%s with %.20q: %.200q, not %q", c.owner, c.token, got, c.want)
		}
		if strings.Contains(got, "shadow") {
			t.Errorf("the token is repeated: %q", got)
		}
	}
	p.o.Tokens = nil
	if got := claim(p, "c3/client", Want{Token: "T1"}); !strings.Contains(got, "this node has no device plugin; name the pool instead") {
		t.Error(got)
	}
}

func TestAClaimByPoolGivesTheFirstFreeOnTheRightNode(t *testing.T) {
	m := sriovtest.New(t)
	a, b := m.Card(1, "ens1", 0, 2, 8), m.Card(2, "ens2", 1, 2, 8)
	p := start(t, m, Pool{Name: "example.com/radio", Vendor: "8086"})
	for _, c := range []struct {
		owner string
		want  Want
		gives string
	}{
		{"c1/client", Want{NUMA: 1}, b.VF(0)},
		{"c2/client", Want{NUMA: -1}, a.VF(0)},
		{"c2/endpoint", Want{NUMA: 0, Near: b.VF(0)}, b.VF(1)},
		{"c1/client", Want{NUMA: 0}, b.VF(0)}, // it has one
		{"c3/client", Want{NUMA: 1}, a.VF(1)}, // none is left there
		{"c4/client", Want{NUMA: 1}, "pool example.com/radio has no free virtual function: device 0000:01:10.0 is in use"},
	} {
		c.want.Pool = "example.com/radio"
		if got := claim(p, c.owner, c.want); !strings.HasPrefix(got, c.gives) {
			t.Errorf("%s: %q, not %q", c.owner, got, c.gives)
		}
	}
	if got := claim(p, "c5/client", Want{Pool: "example.com/other"}); got != `pool "example.com/other" is not known here; this node has example.com/radio` {
		t.Error(got)
	}
}

func TestWhatKubeletGivesAwayIsClaimedByTokenOnly(t *testing.T) {
	m := sriovtest.New(t)
	m.Card(1, "ens1", 0, 2, 8)
	p := start(t, m, Pool{Name: "example.com/counted", PF: "ens1"})
	if got := claim(p, "c1/client", Want{Pool: "example.com/counted", NUMA: -1}); !strings.Contains(got, "pass on the token") {
		t.Error(got)
	}
}

func TestWhatIsNotHealthyIsNotGivenAway(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 2, 8)
	p := start(t, m, radio)
	m.Away(card.VF(0), true)
	if got := claim(p, "c1/client", Want{Token: "T1"}); !strings.Contains(got, "device 0000:01:10.0 is not healthy: its interface is in another network namespace: somebody else uses it") {
		t.Error(got)
	}
	m.Away(card.VF(0), false)
	if err := os.WriteFile(filepath.Join(m.Root, "bus/pci/devices", card.PCI, "net/ens1/flags"), []byte("0x1002\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := claim(p, "c1/client", Want{Token: "T1"}); !strings.Contains(got, "its physical function is down; set it up: ip link set ens1 up") {
		t.Error(got)
	}
	m.Remove(card)
	if got := claim(p, "c1/client", Want{Token: "T1"}); got != "device 0000:01:10.0 of pool example.com/radio is not known here: it is gone" {
		t.Error(got)
	}
	if got := claim(p, "c1/client", Want{Pool: radio.Name}); !strings.Contains(got, "has no free virtual function: no card on this node matches it") {
		t.Error(got)
	}
}

func TestOneOwnerByRecordOrByClaim(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 3, 8)
	p := start(t, m, radio)
	p.Recorded("c1", record("c1", card.VF(0), card.VF(1)))
	if got := claim(p, "c2/client", Want{Pool: radio.Name, NUMA: -1}); got != card.VF(2) {
		t.Errorf("%q", got)
	}
	p.Recorded("c3", record("c3", card.VF(0), "")) // written by hand, of one that is taken
	if got := p.Devices()[0].Owner; got != "c1/client" {
		t.Errorf("its owner is %q", got)
	}
	p.Release("c2")
	if got := p.Devices()[2].Owner; got != "" {
		t.Errorf("released, its owner is %q", got)
	}
	p.Release("c1") // what is on record stays
	if got := p.Devices()[1].Owner; got != "c1/endpoint" {
		t.Errorf("its owner is %q", got)
	}
	p.Recorded("c1", nil)
	if got := claim(p, "c4/client", Want{Pool: radio.Name, NUMA: -1}); got != card.VF(0) {
		t.Errorf("%q", got)
	}
}

func TestWhatWouldBeTakenIsExplained(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 4, 8)
	p := start(t, m, radio)
	claim(p, "c1/client", Want{Pool: radio.Name, NUMA: -1})
	m.Away(card.VF(1), true)
	p.Look()
	lines, free, err := p.Explain(radio.Name)
	if err != nil || !free || len(lines) != 4 {
		t.Fatal(lines, free, err)
	}
	for i, want := range []string{`in use by the client of connection "c1"`, "is not healthy", "it would be taken: the first that is free", "free, and after"} {
		if !strings.HasPrefix(lines[i], card.VF(i)+", virtual function") || !strings.Contains(lines[i], want) {
			t.Errorf("%q, not %q", lines[i], want)
		}
	}
	claim(p, "c2/client", Want{Pool: radio.Name, NUMA: -1})
	claim(p, "c3/client", Want{Pool: radio.Name, NUMA: -1})
	if lines, free, err := p.Explain(radio.Name); free || err != nil {
		t.Errorf("when all are taken: %q, %v", lines, err)
	}
	if _, _, err := p.Explain("other"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

func TestClaimsAtTheSameTimeGetDifferentDevices(t *testing.T) {
	m := sriovtest.New(t)
	m.Card(1, "ens1", 0, 8, 8)
	p := start(t, m, radio)
	got := make([]string, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i] = claim(p, "c"+strconv.Itoa(i)+"/client", Want{Pool: radio.Name, NUMA: -1}) })
	}
	all.Wait()
	seen := map[string]bool{}
	for _, id := range got {
		if seen[id] || !ValidPCI(id) {
			t.Errorf("%q", got)
		}
		seen[id] = true
	}
}

func TestAChangeIsToldOnce(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 2, 8)
	p := start(t, m, radio)
	changed := p.Changed()
	p.Look()
	select {
	case <-changed:
		t.Error("nothing has changed, and it is told")
	default:
	}
	m.Create(card, 3)
	p.Look()
	<-changed
	if n := len(p.Devices()); n != 3 {
		t.Errorf("%d devices", n)
	}
}

// Files of sysfs go at any moment; what is read of them meanwhile is nothing, or all of it.
func TestFilesThatVanishWhileTheyAreRead(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 8, 8)
	p := start(t, m, radio)
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				m.Create(card, i%9)
			}
		}
	})
	for range 300 {
		p.Look()
		for _, d := range p.Devices() {
			if !ValidPCI(d.ID) || d.Pool != radio.Name {
				t.Fatalf("%+v", d)
			}
		}
	}
	close(stop)
	done.Wait()
	m.Create(card, 8)
	p.Look()
	if n := len(p.Devices()); n != 8 {
		t.Errorf("%d devices at the end", n)
	}
}
