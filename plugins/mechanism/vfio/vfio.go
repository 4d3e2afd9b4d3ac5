// Package vfio is the mechanism VFIO: a workload gets a virtual function of a network card
// that it drives itself, for instance by DPDK.
package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
)

// Type is the mechanism's name on the wire and in records.
const Type = "VFIO"

// version of the parameters, see models.Offer.
const version = 1

// KindGrant is grant/<id>/<side>, the values by which a workload may open its device.
const KindGrant = "grant"

// Parameters that are told (github.com/networkservicemesh/api, mechanisms/vfio); beside them those of plugins/sriov.
const (
	// Cgroup is the workload's control group, as /proc/<pid>/cgroup has it; /* at its end stands for all
	// groups of that folder, the containers of a pod. In a record; of a workload the agent finds it out.
	Cgroup = "cgroupDir"
	// IOMMUGroup is the name of the function's device below /dev/vfio.
	IOMMUGroup = "iommuGroup"
	// VFIOMajor and those after it are the numbers of the device files that a container makes for itself.
	VFIOMajor   = "vfioMajor"
	VFIOMinor   = "vfioMinor"
	DeviceMajor = "deviceMajor"
	DeviceMinor = "deviceMinor"
)

// ignored are parameters that clients send unasked, or were told.
var ignored = []string{"netns", "name", "inodeURL", "MTU", IOMMUGroup, VFIOMajor, VFIOMinor, DeviceMajor, DeviceMinor}

// Options of a Mechanism.
type Options struct {
	VFs     *sriov.Plugin
	Cgroups string // where control groups are mounted
	Dev     string // where the kernel has VFIO's devices
	RunDir  string // where it is noted what was granted; it must not outlive a boot
	Log     *slog.Logger
}

// Mechanism is VFIO.
type Mechanism struct {
	o       Options
	log     *slog.Logger
	cgroups cgroups
	notes   sriov.Notes[Granted]
	changed func(id string)

	mu    sync.Mutex
	ready map[string]map[string]string // what is told of each end that is ready, by its tag
}

// New returns the mechanism.
func New(o Options) *Mechanism {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Mechanism{o: o, log: o.Log.With("mechanism", Type), cgroups: cgroups{o.Cgroups}, notes: sriov.Notes[Granted]{Dir: o.RunDir},
		changed: func(string) {}, ready: map[string]map[string]string{}}
}

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// Validate checks the parameters; an error is a *models.FieldError.
func (m *Mechanism) Validate(parameters map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case key == sriov.ParamPCI, key == sriov.ParamToken, key == sriov.ParamPool, key == Cgroup, slices.Contains(ignored, key):
		default:
			return field(key, "is not a parameter of %s; it has %s, %s, %s and %s", Type, sriov.ParamPool, sriov.ParamToken, sriov.ParamPCI, Cgroup)
		}
	}
	if c := parameters[Cgroup]; c != "" && (!filepath.IsAbs(c) || filepath.Clean(c) != c || len(c) > 4095 || strings.ContainsAny(strings.TrimSuffix(c, "/*"), "*?[\\")) {
		return field(Cgroup, "%.80q is no path of a control group; write it as /proc/<pid>/cgroup has it, like /kubepods/pod1/*", c)
	}
	return m.o.VFs.Validate(parameters)
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}

// Offers are those of network cards.
func (m *Mechanism) Offers() []*models.Offer {
	return []*models.Offer{{Type: Type, Dataplane: models.CardDataplane, Class: "LOCAL", Joins: true, Version: version}}
}

// Register gives the engine the descriptor of what is granted.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	m.changed = changed
	reconcile.Register(e, KindGrant, descriptor{m})
}

// Passes: it has a function always.
func (m *Mechanism) Passes(map[string]string) bool { return true }

// Pass renders the function, which vfio-pci has, and what the workload's control group is granted. What
// is set on interfaces in the record is for the workload to set: there is no interface here.
func (m *Mechanism) Pass(x *models.CrossConnect, side models.Side) ([]reconcile.Value, error) {
	ready, err := m.o.VFs.Render(x, side, sriov.DriverVFIO)
	if err != nil {
		return nil, err
	}
	p := x.At(side).GetMechanism().GetParameters()
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	return []reconcile.Value{ready, {Key: grantKey(tag), Spec: Grant{PCI: p[sriov.ParamPCI], Cgroup: p[Cgroup]}}}, nil
}

// Status tells the client where its device is, once it may open it.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	pci := x.At(side).GetMechanism().GetParameters()[sriov.ParamPCI]
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: map[string]string{sriov.ParamPCI: pci}}
	m.mu.Lock()
	defer m.mu.Unlock()
	if told, ok := m.ready[grantKey(linux.Tag{ID: x.GetId(), Side: linux.Side(side)})]; ok {
		s.Interface, s.LinkUp = pci, true
		maps.Copy(s.Parameters, told)
	}
	return s
}

// tell notes what the workload is told; nil: nothing any more.
func (m *Mechanism) tell(key string, d *devices) {
	m.mu.Lock()
	delete(m.ready, key)
	if d != nil {
		number := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
		m.ready[key] = map[string]string{
			IOMMUGroup: strconv.Itoa(d.group), VFIOMajor: number(d.vfio.major), VFIOMinor: number(d.vfio.minor),
			DeviceMajor: number(d.device.major), DeviceMinor: number(d.device.minor),
		}
	}
	m.mu.Unlock()
	m.changed(tagOf(key).ID)
}

// CgroupOf is the control group of a workload's process. With /* at the end of what its client asks for, as Network
// Service Mesh's clients do, it is those of all containers of its pod. Nothing else of that counts: whose
// group it is, the kernel says.
func (m *Mechanism) CgroupOf(pid int, asked string) (string, error) {
	own, err := m.cgroups.of(pid)
	if err == nil && strings.HasSuffix(asked, "/*") && own != "/" {
		own = filepath.Dir(own) + "/*"
		own = strings.Replace(own, "//", "/", 1)
	}
	return own, err
}

// Gone tells whether a workload's control group, as a record names it, is there no more.
func (m *Mechanism) Gone(group string) bool {
	_, err := os.Stat(filepath.Join(m.cgroups.base(), strings.TrimSuffix(group, "/*")))
	return errors.Is(err, fs.ErrNotExist)
}
