package endpoint

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestPoolHandsOutPairs(t *testing.T) {
	for _, c := range []struct {
		prefix   string
		excluded []string
		want     string // pairs until it is exhausted, or the first ones
		more     bool
	}{
		{"10.60.0.0/29", nil, "10.60.0.1-10.60.0.2 10.60.0.3-10.60.0.4 10.60.0.5-10.60.0.6", false},
		{"10.60.0.5/29", nil, "10.60.0.1-10.60.0.2 10.60.0.3-10.60.0.4 10.60.0.5-10.60.0.6", false},
		{"10.60.0.0/30", nil, "10.60.0.1-10.60.0.2", false},
		{"10.60.0.0/31", nil, "10.60.0.0-10.60.0.1", false},
		{"255.255.255.252/30", nil, "255.255.255.253-255.255.255.254", false},
		{"0.0.0.0/0", nil, "0.0.0.1-0.0.0.2", true},
		{"fd00::/64", nil, "fd00::1-fd00::2 fd00::3-fd00::4", true},
		{"fd00::/127", nil, "fd00::-fd00::1", false},
		{"fd00::/126", nil, "fd00::1-fd00::2", false},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", nil, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", false},
		{"10.0.0.0/8", []string{"10.0.0.0/9", "10.128.0.2/32"}, "10.128.0.0-10.128.0.1 10.128.0.3-10.128.0.4", true},
		{"10.60.0.0/30", []string{"10.60.0.2/32"}, "", false},
		{"10.60.0.0/30", []string{"10.0.0.0/8"}, "", false},
	} {
		t.Run(c.prefix+strings.Join(c.excluded, ","), func(t *testing.T) {
			p, err := newPool(netip.MustParsePrefix(c.prefix), false)
			if err != nil {
				t.Fatal(err)
			}
			var excluded []netip.Prefix
			for _, e := range c.excluded {
				excluded = append(excluded, netip.MustParsePrefix(e))
			}
			for _, want := range strings.Fields(c.want) {
				got, err := p.take(excluded)
				if text := got.client.String() + "-" + got.endpoint.String(); err != nil || text != want {
					t.Fatalf("got %s, %v; want %s", text, err, want)
				}
			}
			if _, err := p.take(excluded); (err == nil) != c.more || err != nil && !errors.Is(err, errExhausted) {
				t.Errorf("after them: %v; more expected: %v", err, c.more)
			}
		})
	}
}

func TestPoolRefusesOneAddress(t *testing.T) {
	for _, s := range []string{"10.0.0.1/32", "fd00::1/128"} {
		if _, err := newPool(netip.MustParsePrefix(s), false); err == nil {
			t.Errorf("%s was accepted", s)
		}
	}
}

func TestPoolGivesOutAgainWhatCameBack(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("10.60.0.0/29"), false)
	a, _ := p.take(nil)
	b, _ := p.take(nil)
	p.giveBack(a)
	if c, err := p.take(nil); err != nil || c != a {
		t.Errorf("took %v, %v; want %v", c, err, a)
	}
	addr := netip.MustParseAddr
	for name, old := range map[string]pair{
		"in use":         b,
		"half in use":    {b.client, addr("10.60.0.6")},
		"of elsewhere":   {addr("10.61.0.1"), addr("10.61.0.2")},
		"broadcast":      {addr("10.60.0.6"), addr("10.60.0.7")},
		"nothing":        {},
		"one for both":   {addr("10.60.0.6"), addr("10.60.0.6")},
		"another family": {addr("fd00::1"), addr("fd00::2")},
	} {
		if p.retake(old) {
			t.Errorf("%s: %v was given out again", name, old)
		}
	}
	if !p.retake(pair{addr("10.60.0.6"), addr("10.60.0.5")}) {
		t.Error("a pair that was free was refused")
	}
	if _, err := p.take(nil); err == nil || !strings.Contains(err.Error(), "10.60.0.0/29: no two addresses are free; 6 of 6 in use") {
		t.Errorf("error %v", err)
	}
}

func TestPoolOfASharedLinkGivesOneAddress(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("10.60.0.0/30"), true)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := p.take(nil)
	b, err := p.take(nil)
	if err != nil || a.endpoint.IsValid() || a.client == b.client {
		t.Errorf("took %v and %v, %v", a, b, err)
	}
	if _, err := p.take(nil); err == nil || !strings.Contains(err.Error(), "10.60.0.0/30: no address is free; 2 of 2 in use") {
		t.Errorf("error %v", err)
	}
	p.giveBack(b)
	if !p.retake(pair{client: b.client}) || p.retake(a) {
		t.Error("what is free is had again, and nothing else")
	}
}
