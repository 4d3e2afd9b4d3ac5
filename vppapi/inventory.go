package vppapi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	interfaces "go.fd.io/govpp/binapi/interface"
)

// inventory is what is known of the interfaces that have a tag, without asking: they are
// many, and whoever joins two or shows one must not list them all.
type inventory struct {
	mu      sync.Mutex
	byTag   map[string]Index
	byIndex map[Index]*Interface
	unsure  map[Index]bool  // events told of these; to be looked at
	looking bool            // somebody does
	later   map[Index]*rest // what is still to be done to new interfaces, see Client.Later
}

// rest is what was left for later.
type rest struct {
	Setup
	taken bool // by the call that joins it
}

func (v *inventory) init() {
	v.byTag, v.byIndex, v.unsure, v.later = map[string]Index{}, map[Index]*Interface{}, map[Index]bool{}, map[Index]*rest{}
}

func (v *inventory) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.byTag)
	clear(v.byIndex)
	clear(v.unsure)
	clear(v.later)
}

// learn takes a list of all interfaces for all that there is, but for the tags that new
// ones are to get later. It returns the tags of those that are not as they were known,
// although no event has told of them: VPP tells nobody when a tag is changed.
func (v *inventory) learn(all map[Index]Interface) (changed []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	byTag, byIndex := v.byTag, v.byIndex
	v.byTag, v.byIndex = make(map[string]Index, len(byTag)), make(map[Index]*Interface, len(all))
	for _, i := range all {
		if known := byIndex[i.Index]; known != nil && i.Tag == "" && v.later[i.Index] != nil {
			i = *known
		}
		v.byIndex[i.Index] = &i
		if i.Tag != "" {
			v.byTag[i.Tag] = i.Index
		}
	}
	for index := range v.later {
		if i := v.byIndex[index]; i == nil || byIndex[index] == nil || i.Tag != byIndex[index].Tag {
			delete(v.later, index)
		}
	}
	for tag, index := range byTag {
		now, there := v.byTag[tag]
		if was := byIndex[index]; !there || now != index || was.AdminUp != v.byIndex[now].AdminUp || was.LinkUp != v.byIndex[now].LinkUp {
			changed = append(changed, tag)
		}
	}
	return changed
}

// put notes how an interface is.
func (v *inventory) put(i Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, later := v.later[i.Index]; later && i.Tag == "" {
		return // it has none yet
	}
	v.drop(i.Index)
	v.byIndex[i.Index] = &i
	if i.Tag != "" {
		v.byTag[i.Tag] = i.Index
	}
}

// gone forgets an interface that was deleted.
func (v *inventory) gone(index Index) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(index)
}

func (v *inventory) drop(index Index) {
	delete(v.later, index)
	if i := v.byIndex[index]; i != nil && v.byTag[i.Tag] == index {
		delete(v.byTag, i.Tag)
	}
	delete(v.byIndex, index)
}

// Later notes what [Client.Finish] is to do to a new interface, to be done by the call that
// joins it: one round trip less, while somebody waits. Until then the interface is known
// here by its tag and name, and in VPP only by what it was made of.
func (c *Client) Later(index Index, name string, s Setup) {
	c.inv.mu.Lock()
	defer c.inv.mu.Unlock()
	c.inv.drop(index)
	c.inv.byIndex[index] = &Interface{Index: index, Name: name, Tag: s.Tag}
	c.inv.byTag[s.Tag] = index
	c.inv.later[index] = &rest{Setup: s}
}

// take gives what was left for later. It stays so until VPP shows the tag.
func (v *inventory) take(index Index) (Setup, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.later[index]
	if !ok {
		return Setup{}, false
	}
	s.taken = true
	return s.Setup, true
}

// Tagged is the interface that has a tag, as VPP told last; nothing is asked.
func (c *Client) Tagged(tag string) (Interface, bool) {
	c.inv.mu.Lock()
	defer c.inv.mu.Unlock()
	index, ok := c.inv.byTag[tag]
	if !ok {
		return Interface{}, false
	}
	return *c.inv.byIndex[index], true
}

// At is the interface that has an index, as VPP told last; nothing is asked.
func (c *Client) At(index Index) (Interface, bool) {
	c.inv.mu.Lock()
	defer c.inv.mu.Unlock()
	i, ok := c.inv.byIndex[index]
	if !ok {
		return Interface{}, false
	}
	return *i, true
}

// Refresh looks at all interfaces again and returns them by index. Watchers are told of what
// had changed without an event.
func (c *Client) Refresh(ctx context.Context) (map[Index]Interface, error) {
	all := map[Index]Interface{}
	var changed []string
	err := c.call(ctx, dumpInterfaces(All, func(i Interface) { all[i.Index] = i }).after(func() { changed = c.inv.learn(all) }))
	if err == nil {
		c.tellLinks(changed)
	}
	return all, err
}

// Interfaces gives all by index as VPP has them, without what is left for later.
func (c *Client) Interfaces(ctx context.Context) (map[Index]Interface, error) {
	all := map[Index]Interface{}
	err := c.call(ctx, dumpInterfaces(All, func(i Interface) { all[i.Index] = i }))
	return all, err
}

func (c *Client) tellLinks(tags []string) {
	if len(tags) == 0 {
		return
	}
	c.tell(func(w Watcher) {
		if w.Links != nil {
			w.Links(tags)
		}
	})
}

// event takes what VPP tells unasked. It tells what has happened to an interface, not how
// it is now: an event of the link says nothing of the administrative state, several that
// came together are one with the flags of all, and "deleted" may be of an interface whose
// index another one has by now (VPP: src/vnet/interface_api.c, link_state_process). So it
// is only taken as a reason to look.
func (c *Client) event(m api.Message) {
	switch e := m.(type) {
	case *interfaces.SwInterfaceEvent:
		if c.inv.doubt(Index(e.SwIfIndex), e.Deleted) {
			c.done.Go(c.look)
		}
	case *bfd.BfdUDPSessionEvent:
		c.tell(func(w Watcher) {
			if w.BFD != nil {
				w.BFD()
			}
		})
	}
}

// doubt notes that an interface is to be looked at and says whether somebody must begin.
// Those that have no tag concern nobody, nor do new ones, until they are joined, unless they
// are gone: the call that joins them looks.
func (v *inventory) doubt(index Index, deleted bool) (begin bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := v.byIndex[index]; i == nil || i.Tag == "" {
		return false
	}
	if rest := v.later[index]; rest != nil && !rest.taken && !deleted {
		return false
	}
	v.unsure[index] = true
	begin, v.looking = !v.looking, true
	return begin
}

// doubtful are those to be looked at, with their tags; if there are none, the looking ends.
func (v *inventory) doubtful() map[Index]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[Index]string{}
	for index := range v.unsure {
		if i := v.byIndex[index]; i != nil {
			all[index] = i.Tag
		}
	}
	clear(v.unsure)
	v.looking = len(all) > 0
	return all
}

// gather is how long events are gathered before anybody looks: they come in bursts, and
// the first of them while the connection that causes them is being made.
const gather = 5 * time.Millisecond

// again is the pause after a look that VPP did not answer, so that what it told of is seen
// as soon as it answers.
const again = 100 * time.Millisecond

// joined tells the watchers of interfaces that a call has just finished: of a link that is up
// already VPP may tell before it answers, or not at all.
func (c *Client) joined(indexes ...Index) {
	var tags []string
	for _, index := range indexes {
		if i, ok := c.At(index); ok && i.Tag != "" {
			tags = append(tags, i.Tag)
		}
	}
	c.tellLinks(tags)
}

// look brings up to date what events told of, and tells the watchers.
func (c *Client) look() {
	for c.ctx.Err() == nil {
		select {
		case <-time.After(gather):
		case <-c.ctx.Done():
			return
		}
		tags := c.inv.doubtful()
		if len(tags) == 0 {
			return
		}
		indexes := slices.Sorted(maps.Keys(tags))
		var calls []*exchange
		for _, index := range indexes {
			found := false
			calls = append(calls, dumpInterfaces(index, func(i Interface) {
				found = true
				c.inv.put(i)
			}).after(func() {
				if !found {
					c.inv.gone(index)
				}
			}))
		}
		if err := c.call(c.ctx, calls...); err != nil {
			select {
			case <-c.ctx.Done():
			case <-time.After(again): // it hangs, or it has gone and the inventory with it
			}
			for index := range tags {
				c.inv.doubt(index, true)
			}
			continue
		}
		var told []string
		for _, index := range indexes {
			told = append(told, tags[index])
		}
		c.tellLinks(told)
	}
}

// count is how many interfaces VPP has.
func (c *Client) count() int {
	c.inv.mu.Lock()
	defer c.inv.mu.Unlock()
	return len(c.inv.byIndex)
}
