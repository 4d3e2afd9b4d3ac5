package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/store"
)

// claimEvery is how often an agent that waits for its node's name looks whether it is free.
const claimEvery = 250 * time.Millisecond

// withIdentity reads who this agent is to the agents of other nodes, where it has one.
func (a *Agent) withIdentity() (err error) {
	switch c := a.cfg.GRPC; {
	case c.SPIFFE != "":
		a.identity, err = identity.FromSPIFFE(a.cfg.Node.Name, c.SPIFFE, a.log)
	case c.TLS.Cert != "" && c.TLS.CA != "":
		a.identity, err = identity.FromFiles(a.cfg.Node.Name, identity.Files(c.TLS), a.log)
	}
	return err
}

// claim waits while another agent that is alive has this node's name: both would program
// the node by the same records. It does not wait for an etcd that is away; what becomes of
// the name is then settled when it answers.
func (a *Agent) claim(ctx context.Context) error {
	told := false
	for {
		kv, err := a.store.Get(ctx, a.keys.Agent())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || a.mine(kv.Value) {
			return nil
		}
		if !told {
			told = true
			a.log.Error("this agent waits: "+a.taken(kv.Value), "node", a.cfg.Node.Name)
		}
		select {
		case <-time.After(claimEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// taken says that there is another agent, and what to do.
func (a *Agent) taken(value []byte) string {
	other, err := models.ParseAgent(value)
	if err != nil {
		other = &models.Agent{}
	}
	where := ""
	if other.Url != "" {
		where = " at " + other.Url
	}
	return fmt.Sprintf("another agent%s is alive as node %q in this etcd; stop it, or give one of the two another node.name", where, a.cfg.Node.Name)
}

// mine tells whether this agent, or the one that ran here before a restart, wrote what is
// under the node's name.
func (a *Agent) mine(value []byte) bool {
	o, err := models.ParseAgent(value)
	return err == nil && o.Instance == a.claimant()
}

// claimant tells the agent of this node from one elsewhere with the same name, and stays
// the same when the agent restarts: the boot of the machine (random(4), boot_id), the
// network namespace in it, and the socket, which one process can have.
func (a *Agent) claimant() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		host, _ := os.Hostname() // better than nothing; empty is no worse
		boot = []byte(host)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", strings.TrimSpace(string(boot)), ownNetns(), a.cfg.GRPC.Listen[0]))
	return hex.EncodeToString(sum[:8])
}

// publish keeps agents/<node> in etcd while the agent runs; an agent that loses its node's
// name to another while it was cut off from etcd stops.
func (a *Agent) publish(ctx context.Context) error {
	a.tunnels.Look(ctx)
	a.publishOffer()
	a.done.Go(func() { a.lookForAddresses(ctx) })
	a.done.Go(func() {
		lease := time.Duration(a.cfg.Node.Lease) * time.Second
		err := a.store.Hold(ctx, a.keys.Agent(), lease, a.offers, a.mine)
		if errors.Is(err, store.ErrTaken) {
			a.fail(errors.New(a.taken(nil)))
		}
	})
	return nil
}
