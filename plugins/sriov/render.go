package sriov

import (
	"context"
	"fmt"
	"slices"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Parameters of a mechanism whose workload has a virtual function (those of
// github.com/networkservicemesh/api, mechanisms/common, and the pool, which is ours).
const (
	// ParamPCI is the function's PCI address. A record names it; from a workload it says nothing.
	ParamPCI = "pciAddress"
	// ParamToken is what the device plugin gave the workload.
	ParamToken = "tokenID"
	// ParamPool is the pool to choose from, and in a record the one that it was chosen from.
	ParamPool = "pool"
)

// Asks tells whether the parameters are of a workload that has a virtual function, or is to get one.
func Asks(parameters map[string]string) bool {
	return parameters[ParamPCI] != "" || parameters[ParamToken] != "" || parameters[ParamPool] != ""
}

// Validate checks those of the parameters that are this room's. An error is a *models.FieldError.
func (p *Plugin) Validate(parameters map[string]string) error {
	if Asks(parameters) && len(p.o.Pools) == 0 {
		return &models.FieldError{Field: ParamPool, Reason: errNoPools.Error()}
	}
	if pci := parameters[ParamPCI]; pci != "" && !ValidPCI(pci) {
		return &models.FieldError{Field: ParamPCI, Reason: fmt.Sprintf("%q is not a PCI address; write it like 0000:3b:10.0", clip(pci))}
	}
	if name := parameters[ParamPool]; name != "" {
		if _, ok := p.Pool(name); !ok {
			return &models.FieldError{Field: ParamPool, Reason: fmt.Sprintf("%q %v; this node has %s", clip(name), ErrUnknown, p.names())}
		}
	}
	return nil
}

// Render renders the virtual function that one end of a cross-connect has, ready for a driver: DriverVFIO, or
// empty for that of its interface. An error is a *models.FieldError, its field as in the record.
func (p *Plugin) Render(x *models.CrossConnect, side models.Side, driver string) (reconcile.Value, error) {
	pci, pool, err := p.of(x, side)
	if err != nil {
		return reconcile.Value{}, err
	}
	if err := p.reaches(x, side, pci, pool); err != nil {
		return reconcile.Value{}, err
	}
	spec := VF{
		Tag: linux.Tag{ID: x.GetId(), Side: linux.Side(side)}.String(), Driver: driver,
		VLAN: pool.VLAN, Rate: pool.Rate, Spoof: !pool.NoSpoof, Trust: pool.Trust,
	}
	if mac := x.At(side).GetMac(); mac != "" {
		if spec.MAC, err = linux.ParseMAC(mac); err != nil {
			return reconcile.Value{}, &models.FieldError{Field: string(side) + ".mac", Reason: err.Error()}
		}
	}
	return reconcile.Value{Key: VFKey(pci), Spec: spec}, nil
}

// RenderPort is as Render, for a forwarder: it sends from the addresses of those behind it. mac is that of the one behind
// it, which the function gets where its end of the record has none.
func (p *Plugin) RenderPort(x *models.CrossConnect, side models.Side, driver string, mac [6]byte) (reconcile.Value, error) {
	v, err := p.Render(x, side, driver)
	if spec, ok := v.Spec.(VF); ok {
		spec.Spoof = false
		if spec.MAC == (linux.MAC{}) {
			spec.MAC = mac
		}
		v.Spec = spec
	}
	return v, err
}

// of is the function that an end has, and its pool.
func (p *Plugin) of(x *models.CrossConnect, side models.Side) (pci string, pool Pool, err error) {
	field := func(name, format string, args ...any) error {
		return &models.FieldError{Field: string(side) + ".mechanism.parameters." + name, Reason: fmt.Sprintf(format, args...)}
	}
	parameters := x.At(side).GetMechanism().GetParameters()
	pci = parameters[ParamPCI]
	if pci == "" {
		return "", pool, field(ParamPCI, "is missing; a record names the virtual function itself: look for one with patchbay get devices, or write a connection, for which one is chosen")
	}
	p.mu.Lock()
	name, holder := p.seen[pci].pool, p.owners[pci].name
	p.mu.Unlock()
	if name == "" { // it is gone, and comes back
		name = parameters[ParamPool]
	}
	pool, ok := p.Pool(name)
	switch {
	case !ok:
		return "", pool, field(ParamPCI, "%s is in no pool of this node; add it to one (sriov.pools), or name another", pci)
	case parameters[ParamPool] != "" && parameters[ParamPool] != name:
		return "", pool, field(ParamPool, "%s is in pool %s; name that, or none", pci, name)
	case holder != "" && holder != Owner(x.GetId(), side):
		return "", pool, field(ParamPCI, "%s %v by the %s; name another", pci, ErrInUse, reads(holder))
	}
	return pci, pool, nil
}

// reaches says why the cards do not switch between the function at side and that at the other end.
func (p *Plugin) reaches(x *models.CrossConnect, side models.Side, pci string, pool Pool) error {
	other := models.EndpointSide
	if side == other {
		return nil // the client was asked
	}
	far := x.At(other).GetMechanism().GetParameters()[ParamPCI]
	if far == "" || !Asks(x.At(other).GetMechanism().GetParameters()) {
		return nil
	}
	_, theirs, err := p.of(x, other)
	if err != nil {
		return err
	}
	p.mu.Lock()
	same := p.seen[pci].card.pci == p.seen[far].card.pci
	p.mu.Unlock()
	at := string(other) + ".mechanism.parameters." + ParamPCI
	switch {
	case pool.VLAN != theirs.VLAN:
		return &models.FieldError{Field: at, Reason: fmt.Sprintf("%s is in VLAN %d by its pool, %s in %d: no card switches between them; take both from pools of one VLAN", far, theirs.VLAN, pci, pool.VLAN)}
	case !same && pool.Name != theirs.Name:
		return &models.FieldError{Field: at, Reason: fmt.Sprintf("%s is on another card than %s, and in another pool: nothing says that they are on one network; take both from one pool", far, pci)}
	}
	return nil
}

// PoolOf is the pool whose virtual functions the workloads of a network service get; empty: none.
func (p *Plugin) PoolOf(service string) string {
	for _, x := range p.o.Pools {
		if slices.Contains(x.Services, service) {
			return x.Name
		}
	}
	return ""
}

// Settle gives one end of a cross-connect a virtual function: by the token or the pool that it names, else by its network
// service. PCI address and pool are then parameters of its mechanism, and it is held for the connection until Release, or
// until it is on record. One that the record names already stays. pid is the workload's process, by which its NUMA
// node is known; 0: none. The reason says in a line what was chosen.
func (p *Plugin) Settle(ctx context.Context, x *models.CrossConnect, side models.Side, pid int) (reason string, err error) {
	m, other := x.At(side).GetMechanism(), models.ClientSide
	if side == other {
		other = models.EndpointSide
	}
	if m.Parameters[ParamPCI] != "" {
		return "", nil
	}
	want := Want{Pool: m.Parameters[ParamPool], Token: m.Parameters[ParamToken], NUMA: p.numaOf(pid), Near: x.At(other).GetMechanism().GetParameters()[ParamPCI]}
	if want.Token == "" && want.Pool == "" {
		if want.Pool = p.PoolOf(x.GetNetworkService()); want.Pool == "" {
			return "", fmt.Errorf("parameter %s is missing, and no pool is for network service %q; name one of %s, or pass on the device plugin's token as %s",
				ParamPool, x.GetNetworkService(), p.names(), ParamToken)
		}
	}
	d, err := p.Claim(ctx, Owner(x.GetId(), side), want)
	if err != nil {
		return "", err
	}
	delete(m.Parameters, ParamToken)
	m.Parameters[ParamPCI], m.Parameters[ParamPool] = d.ID, d.Pool
	return chosen(d, m.Type, want.Token != ""), nil
}

// chosen says what was chosen, in words that are the same when it is asked again.
func chosen(d Device, mechanism string, byToken bool) string {
	by := ""
	if byToken {
		by = ", by its token"
	}
	numa := ""
	if d.NUMA >= 0 {
		numa = fmt.Sprintf(", NUMA node %d", d.NUMA)
	}
	return fmt.Sprintf("%s: virtual function %d of %s (%s), pool %s%s%s", mechanism, d.VF, d.PF, d.ID, d.Pool, numa, by)
}
