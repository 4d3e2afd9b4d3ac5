package sriov

import (
	"strings"
	"sync"

	"go.patchbay.dev/plugins/linux"
)

// facts are the functions that are there, for the engine: what stands on one that is gone waits until
// it comes back.
type facts struct {
	plugin  *Plugin
	observe func(key string, present bool)

	mu      sync.Mutex
	watched map[string]bool // by PCI address: it was there when this was told last
}

// Watch begins to tell of a function.
func (f *facts) Watch(key string) bool {
	pci := strings.TrimPrefix(key, KindPCI+"/")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched[pci] = f.plugin.Present(pci)
	return f.watched[pci]
}

// Unwatch ends that.
func (f *facts) Unwatch(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watched, strings.TrimPrefix(key, KindPCI+"/"))
}

// update tells of what has come and gone. What has come again between two looks has gone, too.
func (f *facts) update(found map[string]seen, again []string) {
	for _, pci := range again {
		f.tell(pci, false)
	}
	f.mu.Lock()
	all := make([]string, 0, len(f.watched))
	for pci := range f.watched {
		all = append(all, pci)
	}
	f.mu.Unlock()
	for _, pci := range all {
		f.tell(pci, found[pci].there || f.plugin.Present(pci))
	}
}

func (f *facts) tell(pci string, present bool) {
	f.mu.Lock()
	was, watched := f.watched[pci]
	if watched {
		f.watched[pci] = present
	}
	f.mu.Unlock()
	if watched && was != present {
		f.observe(KindPCI+"/"+pci, present)
	}
}

// inspect has the engine mend functions that somebody changed who is not their owner.
func (p *Plugin) inspect(found map[string]seen) {
	cards := map[string][]linux.VF{}
	for pci, s := range found {
		if !s.there || s.card.name == "" || p.owner(pci) == "" {
			continue
		}
		if _, asked := cards[s.card.name]; !asked {
			cards[s.card.name], _ = p.o.Kernel.VFs(s.card.name) // none: its card is going, which the next look sees
		}
		p.mu.Lock()
		want, applied := p.applied[pci]
		p.mu.Unlock()
		for _, now := range cards[s.card.name] {
			if applied && now.Index == s.vf.index && want.settings(now) != now {
				p.log.Info("virtual function was changed from outside", "key", VFKey(pci))
				p.lost(VFKey(pci))
			}
		}
	}
}
