package vppapi_test

import (
	"fmt"
	"strings"
	"testing"

	"go.patchbay.dev/vppapi"
)

// An id may have 63 bytes, and a tag of VPP's no more. Whoever comes later reads the whole
// tag all the same, and what others wrote as they did.
func longTags(t *testing.T, e *env) {
	c := e.client(t)
	made := map[string]vppapi.Index{}
	for _, fill := range []string{"a", "-", ".", "9", "web-7c9d8f7b6d-x2x4z."} {
		for _, side := range []string{"client", "endpoint"} {
			for _, size := range []int{44, 45, 46, 47, 48, 63} {
				tag := "patchbay:" + strings.Repeat(fill, size)[:size] + ":" + side
				i, _ := e.memif(t, c, tag)
				made[tag] = i
				if got := find(t, c, i); got.Tag != tag {
					t.Errorf("%q is listed as %q", tag, got.Tag)
				}
			}
		}
	}
	later := e.client(t)
	for tag, i := range made {
		if got, there := later.Tagged(tag); !there || got.Index != i {
			t.Errorf("%q, to a client that came later: %+v, %v", tag, got, there)
		}
	}

	longest := "patchbay:" + strings.Repeat(".", 63) + ":client"
	v, err := c.CreateVhostUser(t.Context(), vppapi.VhostUser{Socket: e.path(number()), Server: true, MAC: [6]byte{2, 1}}, longest)
	ok(t, "create vhost-user", err)
	if got := find(t, c, v); got.Tag != longest {
		t.Errorf("vhost-user is listed as %q", got.Tag)
	}
	ok(t, "delete vhost-user", c.DeleteVhostUser(t.Context(), v))

	i, _ := e.memif(t, c, "")
	for _, foreign := range []string{"patchbay:c1:c", "patchbay:c1:e", "patchbay::c", "patchbay:a\tb:c", "patchbay:" + strings.Repeat("~", 52) + ":e", "mine:c"} {
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: foreign}))
		if got := find(t, c, i); got.Tag != foreign {
			t.Errorf("%q is listed as %q", foreign, got.Tag)
		}
	}
	for _, tag := range []string{longest[:len(longest)-1], strings.ToUpper(longest), fmt.Sprintf("patchbay:%064d:client", 0), strings.Repeat("x", 64)} {
		if err := c.Finish(t.Context(), i, vppapi.Setup{Tag: tag}); err == nil {
			t.Errorf("%q, which VPP would cut, was taken", tag)
		}
	}
}
