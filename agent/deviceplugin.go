package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/deviceplugin"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/mechanism/vfio"
)

// openTokens reads what kubelet has given away; nil where it counts nothing.
func (a *Agent) openTokens() (err error) {
	c := a.cfg.SRIOV
	if c.Kubelet == "" {
		return nil
	}
	var names []string
	for _, p := range c.Pools {
		names = append(names, p.Name)
	}
	a.tokens, err = deviceplugin.OpenTokens(c.Tokens, names)
	return err
}

// devicePlugin lets kubelet count the pools while the agent runs.
func (a *Agent) devicePlugin() part {
	none := part{"device plugin", func(context.Context) error { return nil }, func() {}}
	if a.tokens == nil {
		return none
	}
	p, err := deviceplugin.New(deviceplugin.Options{Dir: a.cfg.SRIOV.Kubelet, Devices: a.sriov, Tokens: a.tokens, Evict: a.evict, Log: a.log})
	if err != nil {
		none.start = func(context.Context) error { return err }
		return none
	}
	return part{"device plugin", p.Start, p.Stop}
}

// given is when kubelet last gave a device to a pod.
func (a *Agent) given(id string) time.Time {
	if a.tokens == nil {
		return time.Time{}
	}
	return a.tokens.Given(id)
}

// evict closes the connection that has a device, owner as plugins/sriov names it, if the
// workload at that end is gone.
func (a *Agent) evict(ctx context.Context, owner string) error {
	id, side, _ := strings.Cut(owner, "/")
	x, _, ok := a.crossconnects.Lookup(id)
	switch {
	case !ok || x == nil:
		return errors.New("its request is under way")
	case x.GetRequest() == nil:
		return fmt.Errorf("it was written to etcd; delete it with: patchbay delete crossconnect %s", id)
	}
	if err := a.gone(x.At(models.Side(side)).GetMechanism().GetParameters()); err != nil {
		return err
	}
	a.log.Info("connection closed, for kubelet gives its device to another pod", "connection", id)
	_, err := a.store.Delete(ctx, a.keys.CrossConnect(id))
	return err
}

// gone says why a workload is not known to be gone: by its network namespace, or its
// control group.
func (a *Agent) gone(parameters map[string]string) error {
	if ref := parameters[kernel.NetNS]; ref != "" {
		f, err := a.linux.File(ref)
		switch {
		case err == nil:
			f.Close()
			return errors.New("its network namespace is there")
		case !errors.Is(err, linux.ErrNoNamespace):
			return err
		}
		return nil
	}
	switch group := parameters[vfio.Cgroup]; {
	case group == "":
		return errors.New("nothing tells whether its workload is there; close it")
	case !a.vfio.Gone(group):
		return errors.New("its control group is there")
	}
	return nil
}
