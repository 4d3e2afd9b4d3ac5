package sriov

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// tree is sysfs (Documentation/ABI/testing/sysfs-bus-pci), or files that stand in for it.
// What is read of it may vanish at any moment: then it reads as empty.
type tree struct {
	root  string
	write func(file, value string) error
}

func newTree(root string) tree {
	return tree{root, func(file, value string) error {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		return errors.Join(err, f.Close())
	}}
}

// function is one PCI function.
func (t tree) function(pci string) string { return filepath.Join(t.root, "bus/pci/devices", pci) }

// there tells whether a PCI function is, and by what its coming again shows: kernfs numbers
// its folders anew.
func (t tree) there(pci string) (stamp uint64, ok bool) {
	info, err := os.Stat(t.function(pci))
	if err != nil {
		return 0, false
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	return st.Ino, true
}

func (t tree) text(pci, file string) string {
	b, _ := os.ReadFile(filepath.Join(t.function(pci), file)) // empty: it is gone, or nothing is known
	return strings.TrimSpace(string(b))
}

func (t tree) number(pci, file string, none int) int {
	n, err := strconv.Atoi(t.text(pci, file))
	if err != nil {
		return none
	}
	return n
}

// target is the last part of what a symbolic link leads to; empty: it is not there.
func (t tree) target(pci, link string) string {
	to, err := os.Readlink(filepath.Join(t.function(pci), link))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// netdev is the interface of a function in the agent's own network namespace.
func (t tree) netdev(pci string) string {
	list, err := os.ReadDir(filepath.Join(t.function(pci), "net"))
	if err != nil || len(list) == 0 {
		return ""
	}
	return list[0].Name()
}

// iffUp is IFF_UP of linux/if.h.
const iffUp = 1

// netdevUp tells whether the interface of a function is set up.
func (t tree) netdevUp(pci, name string) bool {
	flags, err := strconv.ParseUint(t.text(pci, "net/"+name+"/flags"), 0, 32)
	return err == nil && flags&iffUp != 0
}

// physical is a physical function that can have virtual ones.
type physical struct {
	pci, name      string // name: of its interface; empty: none here
	vendor, device string // hexadecimal, without 0x
	up             bool
	total          int
	vfs            []virtual // by index
}

// virtual is a virtual function.
type virtual struct {
	pci    string
	index  int
	numa   int
	group  int
	driver string
	netdev string // in the agent's namespace
	master string // what its interface is a port of
	stamp  uint64
}

// cards reads all there are, sorted by their PCI address.
func (t tree) cards() ([]physical, error) {
	list, err := os.ReadDir(filepath.Join(t.root, "bus/pci/devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a machine without PCI
	}
	if err != nil {
		return nil, fmt.Errorf("list PCI devices: %w", err)
	}
	var all []physical
	for _, e := range list {
		if total := t.number(e.Name(), "sriov_totalvfs", 0); total > 0 {
			all = append(all, t.physical(e.Name(), total))
		}
	}
	return all, nil
}

func (t tree) physical(pci string, total int) physical {
	pf := physical{pci: pci, name: t.netdev(pci), total: total}
	pf.vendor = strings.TrimPrefix(t.text(pci, "vendor"), "0x")
	pf.device = strings.TrimPrefix(t.text(pci, "device"), "0x")
	pf.up = pf.name != "" && t.netdevUp(pci, pf.name)
	list, err := os.ReadDir(t.function(pci))
	if err != nil {
		return pf // it has just gone
	}
	for _, e := range list {
		number, ok := strings.CutPrefix(e.Name(), "virtfn")
		index, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue
		}
		if vf, ok := t.virtual(t.target(pci, e.Name())); ok {
			vf.index = index
			pf.vfs = append(pf.vfs, vf)
		}
	}
	slices.SortFunc(pf.vfs, func(a, b virtual) int { return a.index - b.index })
	return pf
}

// index is which virtual function of a physical one it is; -1: none.
func (t tree) index(pf, pci string) int {
	links, _ := filepath.Glob(filepath.Join(t.function(pf), "virtfn[0-9]*")) // the pattern is right
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && filepath.Base(to) == pci {
			n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(l), "virtfn"))
			return n
		}
	}
	return -1
}

func (t tree) virtual(pci string) (vf virtual, ok bool) {
	if pci == "" {
		return vf, false
	}
	vf = virtual{pci: pci, numa: t.number(pci, "numa_node", -1), group: -1, driver: t.target(pci, "driver"), netdev: t.netdev(pci)}
	if n, err := strconv.Atoi(t.target(pci, "iommu_group")); err == nil {
		vf.group = n
	}
	if vf.netdev != "" {
		vf.master = t.target(pci, "net/"+vf.netdev+"/master")
	}
	vf.stamp, ok = t.there(pci)
	return vf, ok
}

// create has a physical function have so many virtual ones. The kernel changes their number
// by way of none only, so there must be none.
func (t tree) create(pf physical, count int) error {
	switch {
	case count > pf.total:
		return fmt.Errorf("count: %d virtual functions are asked for, %s has at most %d", count, pf.pci, pf.total)
	case len(pf.vfs) > 0:
		return fmt.Errorf("count: %d virtual functions are asked for, %s has %d already, and their number changes by way of none only; free them and write 0 to sriov_numvfs", count, pf.pci, len(pf.vfs))
	}
	if err := t.write(filepath.Join(t.function(pf.pci), "sriov_numvfs"), strconv.Itoa(count)); err != nil {
		return fmt.Errorf("create %d virtual functions on %s: %w", count, pf.pci, err)
	}
	return nil
}

// DriverVFIO is the kernel's driver that hands a function to a program.
const DriverVFIO = "vfio-pci"

// unbind takes a function from the driver that has it.
func (t tree) unbind(pci string) error {
	now := t.target(pci, "driver")
	if now == "" {
		return nil
	}
	err := t.write(filepath.Join(t.function(pci), "driver/unbind"), pci)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take %s from driver %s: %w", pci, now, err)
	}
	return nil
}

// bound tells whether a driver has a function: DriverVFIO, noDriver, or any that makes an interface of it.
func (t tree) bound(pci, driver string) bool {
	switch now := t.target(pci, "driver"); driver {
	case noDriver:
		return now == ""
	case DriverVFIO:
		return now == driver
	default:
		return now != "" && now != DriverVFIO
	}
}

// bind has a driver have a function; "": whichever the kernel takes for it by itself.
func (t tree) bind(pci, driver string) error {
	if t.bound(pci, driver) {
		return t.override(pci, driver)
	}
	if err := t.canBind(pci, driver); err != nil {
		return err
	}
	if err := errors.Join(t.unbind(pci), t.override(pci, driver)); err != nil {
		return err
	}
	failed := t.write(filepath.Join(t.root, "bus/pci/drivers_probe"), pci)
	switch {
	case t.bound(pci, driver):
		return nil
	case driver != DriverVFIO:
		return fmt.Errorf("no driver of the kernel takes %s (%v); load the module for the card's virtual functions", pci, failed)
	}
	return fmt.Errorf("driver %s does not take %s, %s has it (%v); see dmesg", driver, pci, orNone(t.target(pci, "driver")), failed)
}

func orNone(driver string) string {
	if driver == "" {
		return "none"
	}
	return driver
}

// override has the kernel give a function to this driver only; "": to any that knows it. The
// generic driver stays an override: it knows no function by itself.
func (t tree) override(pci, driver string) error {
	if driver != DriverVFIO {
		driver = ""
	}
	now := t.text(pci, "driver_override")
	if now == driver || now == "(null)" && driver == "" {
		return nil
	}
	if err := t.write(filepath.Join(t.function(pci), "driver_override"), driver+"\n"); err != nil {
		return fmt.Errorf("driver_override of %s: %w", pci, err)
	}
	return nil
}

// canBind says what the machine lacks for the driver.
func (t tree) canBind(pci, driver string) error {
	if driver != DriverVFIO {
		return nil
	}
	if _, err := os.Stat(filepath.Join(t.root, "bus/pci/drivers", driver)); err != nil {
		return fmt.Errorf("driver %s is not there; load it: modprobe %[1]s", driver)
	}
	if t.target(pci, "iommu_group") == "" {
		return fmt.Errorf("%s has no IOMMU group, so that no program may have it; boot with intel_iommu=on or amd_iommu=on", pci)
	}
	return nil
}
