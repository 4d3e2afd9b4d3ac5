// Package sriovtest is sysfs as files, for tests on machines without the hardware: cards,
// their virtual functions, and what the kernel does when one of its files is written.
package sriovtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.patchbay.dev/plugins/linux"
)

// Machine is a tree of files below Root and, beside it, what the kernel shows by netlink. Its methods
// may be called at the same time.
type Machine struct {
	Root string
	tb   testing.TB

	mu      sync.Mutex
	cards   map[string]*Card // by PCI address
	gone    int
	Refuses string   // a driver that takes no function
	Writes  []string // what was written: file=value
	Sets    int      // how often a card was told something
}

// Card is a physical function.
type Card struct {
	PCI, Name string
	NUMA      int
	Total     int
	bus       int
	vfs       []linux.VF
}

// New makes a machine without cards, where vfio-pci is loaded.
func New(tb testing.TB) *Machine {
	m := &Machine{Root: tb.TempDir(), tb: tb, cards: map[string]*Card{}}
	for _, driver := range []string{"igbvf", "vfio-pci"} {
		m.put("bus/pci/drivers/"+driver+"/bind", "")
	}
	m.put("bus/pci/drivers_probe", "")
	if err := os.MkdirAll(filepath.Join(m.Root, "bus/pci/devices"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return m
}

// put writes a file.
func (m *Machine) put(file, text string) {
	file = filepath.Join(m.Root, file)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(text), 0o644)
	}
	if err != nil {
		m.tb.Fatal(err)
	}
}

func (m *Machine) link(file, target string) {
	file = filepath.Join(m.Root, file)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.tb.Fatal(err)
	}
	if err := os.Symlink(target, file); err != nil {
		m.tb.Fatal(err)
	}
}

func at(pci string) string { return "bus/pci/devices/" + pci + "/" }

// Card adds one on a bus, with so many virtual functions of at most total.
func (m *Machine) Card(bus int, name string, numa, vfs, total int) *Card {
	c := &Card{PCI: fmt.Sprintf("0000:%02x:00.0", bus), Name: name, NUMA: numa, Total: total, bus: bus}
	m.mu.Lock()
	m.cards[c.PCI] = c
	m.mu.Unlock()
	for file, text := range map[string]string{"vendor": "0x8086", "device": "0x10c9", "sriov_totalvfs": strconv.Itoa(total), "sriov_numvfs": "0",
		"numa_node": strconv.Itoa(numa), "net/" + name + "/flags": "0x1003"} {
		m.put(at(c.PCI)+file, text+"\n")
	}
	m.Create(c, vfs)
	return c
}

// VF is the PCI address of a virtual function of a card.
func (c *Card) VF(i int) string { return fmt.Sprintf("0000:%02x:%02x.%d", c.bus, 0x10+i/8, i%8) }

// Create has a card have so many virtual functions, all of them new.
func (m *Machine) Create(c *Card, count int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.create(c, count)
}

func (m *Machine) create(c *Card, count int) {
	for i := range c.vfs {
		m.gone++ // a folder that is kept elsewhere does not lend its inode's number to the next, nor does sysfs
		err := os.Rename(filepath.Join(m.Root, at(c.VF(i))), filepath.Join(m.Root, fmt.Sprint("gone", m.gone)))
		if err = errors.Join(err, os.Remove(filepath.Join(m.Root, at(c.PCI), fmt.Sprint("virtfn", i)))); err != nil {
			m.tb.Error(err)
		}
	}
	c.vfs = make([]linux.VF, count)
	for i := range count {
		pci := c.VF(i)
		c.vfs[i] = linux.VF{Index: i, MAC: linux.MAC{2, 0, 0, 0, byte(c.bus), byte(i)}, Spoof: true, CanSpoof: true}
		m.put(at(pci)+"numa_node", strconv.Itoa(c.NUMA)+"\n")
		m.put(at(pci)+"driver_override", "(null)\n")
		m.link(at(pci)+"physfn", "../"+c.PCI)
		m.link(at(pci)+"iommu_group", fmt.Sprintf("../../../kernel/iommu_groups/%d", c.bus*100+i))
		m.link(at(c.PCI)+"virtfn"+strconv.Itoa(i), "../"+pci)
		m.bind(pci, "igbvf")
	}
	m.put(at(c.PCI)+"sriov_numvfs", strconv.Itoa(count)+"\n")
}

// Remove takes a card out.
func (m *Machine) Remove(c *Card) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.create(c, 0)
	delete(m.cards, c.PCI)
	if err := os.RemoveAll(filepath.Join(m.Root, "bus/pci/devices", c.PCI)); err != nil {
		m.tb.Error(err)
	}
}

// bind has a driver have a function; one for interfaces gives it one.
func (m *Machine) bind(pci, driver string) {
	m.link(at(pci)+"driver", "../../drivers/"+driver)
	if driver != "vfio-pci" {
		m.put(at(pci)+"net/"+m.Netdev(pci)+"/flags", "0x1002\n")
	}
}

// Netdev is the name of a function's interface.
func (m *Machine) Netdev(pci string) string {
	return "vf" + strings.NewReplacer(":", "", ".", "").Replace(pci[5:])
}

// Away has the interface of a function be in another network namespace, or here again.
func (m *Machine) Away(pci string, away bool) {
	if !away {
		m.put(at(pci)+"net/"+m.Netdev(pci)+"/flags", "0x1002\n")
	} else if err := os.RemoveAll(filepath.Join(m.Root, at(pci), "net")); err != nil {
		m.tb.Error(err)
	}
}

// Write does what the kernel does when a file of sysfs is written.
func (m *Machine) Write(file, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rel, _ := filepath.Rel(m.Root, file)
	m.Writes = append(m.Writes, rel+"="+strings.TrimSpace(value))
	value = strings.TrimSpace(value)
	switch base := filepath.Base(file); base {
	case "sriov_numvfs":
		count, err := strconv.Atoi(value)
		c := m.cards[filepath.Base(filepath.Dir(file))]
		if err != nil || c == nil {
			return fs.ErrNotExist
		}
		m.create(c, count)
	case "driver_override":
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			return err
		}
		m.put(rel, value+"\n")
	case "unbind":
		for _, c := range m.cards {
			for i := range c.vfs {
				if c.VF(i) == value { // as igb: what was not set at the physical function is forgotten with the driver
					c.vfs[i].MAC = linux.MAC{}
				}
			}
		}
		for _, gone := range []string{"driver", "net"} {
			if err := os.RemoveAll(filepath.Join(m.Root, at(value), gone)); err != nil {
				return err
			}
		}
	case "drivers_probe":
		driver, err := os.ReadFile(filepath.Join(m.Root, at(value), "driver_override"))
		if err != nil {
			return err
		}
		name := strings.TrimSpace(string(driver))
		if name == "" || name == "(null)" {
			name = "igbvf"
		}
		if name == m.Refuses {
			return nil // as the kernel, which says so in its log only
		}
		m.bind(value, name)
	default:
		return fmt.Errorf("nobody writes %s", rel)
	}
	return nil
}
