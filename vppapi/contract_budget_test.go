package vppapi_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.patchbay.dev/vppapi"
)

// What is being made counts, so that many at the same time do not get more than there may be.
func room(t *testing.T, e *env) {
	c := e.client(t)
	all, err := c.Interfaces(t.Context())
	ok(t, "list", err)
	limit := len(all) + 2
	b := vppapi.NewBudget(c, vppapi.NewStats(e.stats), vppapi.Limits{Interfaces: limit, VhostUsers: 2})
	have := func() int { return 1 }
	full := func(what string, claim vppapi.Room) {
		t.Helper()
		if _, err := claim(); !errors.Is(err, vppapi.ErrBudget) || !strings.Contains(err.Error(), what) {
			t.Errorf("it is not refused with %q: %v", what, err)
		}
	}
	claimed := func(claim vppapi.Room) (done func()) {
		t.Helper()
		done, err := claim()
		ok(t, "claim", err)
		return done
	}
	vhost := func() (func(), error) { return b.VhostUser(have) }
	interfaces := fmt.Sprintf("it has %d interfaces and may have %d", limit, limit)

	one := claimed(b.Interface)
	two := claimed(b.Interface)
	full(interfaces, b.Interface)
	full(interfaces, vhost) // and takes nothing of the ports' number
	two()
	port := claimed(vhost)
	full("it has 2 vhost-user ports and may have 2", vhost)
	full(interfaces, b.Interface)
	port()

	i, n := e.memif(t, c, fmt.Sprintf("patchbay:room%d:0", number()))
	one() // it is counted as what it has become
	two = claimed(b.Interface)
	full(interfaces, b.Interface)
	two()
	ok(t, "delete", c.DeleteMemif(t.Context(), i, n))
	one, two = claimed(b.Interface), claimed(vhost)
	full(interfaces, b.Interface)
	one()
	two()
}
