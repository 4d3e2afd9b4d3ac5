package kernel

import (
	"testing"

	"go.patchbay.dev/plugins/linux"
)

// An end that was just made is known without a look, once, and by its own name only.
func TestFirst(t *testing.T) {
	client, endpoint := linux.Tag{ID: "c1", Side: linux.Client}, linux.Tag{ID: "c1", Side: linux.Endpoint}
	links := [2]linux.Link{{Name: "nsm0", Place: linux.Place{Index: 7}}, {Name: "e0", Place: linux.Place{NSID: 1, Index: 8}}}
	var p pairs
	p.init()
	p.set(vethKey("c1"), Veth{}, links, true)
	if l, ok := p.first(client, "nsm0"); !ok || l.Index != 7 {
		t.Errorf("the client's end: %v, %t", l, ok)
	}
	if l, ok := p.first(client, "nsm0"); ok {
		t.Errorf("the client's end again: %v", l)
	}
	if l, ok := p.first(endpoint, "other"); ok {
		t.Errorf("the endpoint's end by another name: %v", l)
	}
	p.set(vethKey("c1"), Veth{}, links, false)
	if l, ok := p.first(endpoint, "e0"); ok {
		t.Errorf("an end that was there before: %v", l)
	}
	if l, ok := p.first(linux.Tag{ID: "c2", Side: linux.Client}, "nsm0"); ok {
		t.Errorf("an end that is not there: %v", l)
	}
}
