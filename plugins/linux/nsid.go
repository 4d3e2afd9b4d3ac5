package linux

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Own stands for the agent's own namespace where an nsid is asked for. No other
// namespace has it (NETNSA_NSID_NOT_ASSIGNED).
const Own = -1

// Unknown stands for an nsid that was not asked for.
const Unknown = -2

// rtgenmsg is the header of nsid messages (struct rtgenmsg, padded).
var rtgenmsg = rawData{unix.AF_UNSPEC, 0, 0, 0}

// rawData are bytes of a message as they are.
type rawData []byte

func (d rawData) Len() int          { return len(d) }
func (d rawData) Serialize() []byte { return d }

// NSID is the number by which the kernel knows the namespace within the agent's own,
// as long as it lives; it is given one if it has none. Numbers of namespaces that are
// gone are used again.
func (ns *Namespace) NSID() (int, error) {
	if ns.nsid == Unknown {
		ns.nsid = ns.n.numbers.of(ns.cookie)
	}
	if ns.nsid != Unknown {
		return ns.nsid, nil
	}
	err := ns.n.at(func(c *conn) error {
		id, err := c.nsid(ns.fd)
		if err == nil {
			ns.nsid = id
			ns.n.numbers.note(ns.cookie, id)
		}
		return err
	})
	if err != nil {
		return Unknown, fmt.Errorf("network namespace %q: %w", ns.ref, err)
	}
	return ns.nsid, nil
}

// numbers are the nsids of namespaces that came as descriptors, by their cookies: no two
// namespaces ever have the same, and each keeps its nsid for as long as it lives.
type numbers struct {
	mu sync.Mutex
	by map[uint64]int
}

// maxNumbers bounds how many are known; those of namespaces that have ended are among them.
const maxNumbers = 4096

// of is the nsid of the namespace with that cookie.
func (t *numbers) of(cookie uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.by[cookie]; ok {
		return id
	}
	return Unknown
}

func (t *numbers) note(cookie uint64, id int) {
	if cookie == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil || len(t.by) >= maxNumbers {
		t.by = map[uint64]int{}
	}
	t.by[cookie] = id
}

// nsid asks for the number of the namespace behind fd and has one assigned if there is none.
func (c *conn) nsid(fd int) (int, error) {
	id, err := c.assigned(fd)
	if err != nil || id >= 0 {
		return id, err
	}
	none := int32(unix.NETNSA_NSID_NOT_ASSIGNED)
	err = c.one(newRequest(unix.RTM_NEWNSID, 0, rtgenmsg,
		attrU32(unix.NETNSA_FD, uint32(fd)), attrU32(unix.NETNSA_NSID, uint32(none))))
	if err != nil && !errors.Is(err, unix.EEXIST) { // somebody was faster
		return 0, fmt.Errorf("have an nsid assigned: %w", err)
	}
	if id, err = c.assigned(fd); err == nil && id < 0 {
		err = errors.New("the kernel assigns no nsid")
	}
	return id, err
}

// assigned is the number of the namespace behind fd, negative if it has none.
func (c *conn) assigned(fd int) (int, error) {
	id := -1
	r := newRequest(unix.RTM_GETNSID, 0, rtgenmsg, attrU32(unix.NETNSA_FD, uint32(fd)))
	r.reply = func(body []byte) { id, _ = parseNSID(body) }
	if err := c.one(r); err != nil {
		return 0, fmt.Errorf("ask for the nsid: %w", err)
	}
	return id, nil
}

// parseNSID reads an RTM_NEWNSID or RTM_DELNSID.
func parseNSID(body []byte) (int, bool) {
	for kind, v := range attrs(body[min(len(rtgenmsg), len(body)):]) {
		if kind == unix.NETNSA_NSID {
			return int(int32(u32(v))), true
		}
	}
	return -1, false
}

// learnSelf asks for the number of the agent's own namespace within itself. The kernel gives
// it one when it first speaks there of an interface elsewhere whose underlay is here.
func (n *Namespaces) learnSelf() {
	err := n.at(func(c *conn) error {
		own, err := c.assigned(n.ownFd)
		if err == nil {
			n.self.Store(int32(own))
		}
		return err
	})
	if err != nil {
		n.log.Warn("events of the agent's own network namespace may be missed", "err", err)
	}
}

// sureList is how many numbers a dump surely holds, and gap how many free ones in a row
// are taken for the end: see nsids.
const (
	sureList = 100
	gap      = 512
)

// nsids lists all namespaces that have a number, without the agent's own. Some kernels
// (6.18 is one) end the dump after its first piece, which holds at least 134 numbers and
// at most some 1,150; after what it has, each number is asked for, but those that are
// known already. The kernel gives out the lowest that is free.
func (n *Namespaces) nsids(known func(id int) bool) (ids []int, err error) {
	err = n.at(func(c *conn) error {
		own, err := c.assigned(n.ownFd)
		if err != nil {
			return err
		}
		n.self.Store(int32(own))
		ids, err = dump(c, newRequest(unix.RTM_GETNSID, 0, rtgenmsg), parseNSID)
		if err == nil && len(ids) >= sureList {
			ids, err = c.nsidsAfter(ids, known)
		}
		ids = slices.DeleteFunc(ids, func(id int) bool { return id < 0 || id == own })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	return ids, nil
}

// nsidsAfter adds the numbers after those that were listed.
func (c *conn) nsidsAfter(ids []int, known func(id int) bool) ([]int, error) {
	var ask []int
	last := slices.Max(ids)
	for next := last + 1; next <= last+gap || len(ask) > 0; next++ {
		if known(next) {
			ids = append(ids, next)
			last = next
			continue
		}
		if ask = append(ask, next); len(ask) < batchSize && next < last+gap {
			continue
		}
		there, err := c.taken(ask)
		if err != nil {
			return nil, err
		}
		ids, ask = append(ids, there...), nil
		last = max(last, slices.Max(ids))
	}
	return ids, nil
}

// taken returns those of the numbers that namespaces have.
func (c *conn) taken(ask []int) (there []int, err error) {
	reqs := make([]request, len(ask))
	for i, id := range ask {
		reqs[i] = newRequest(unix.RTM_GETNSID, 0, rtgenmsg, attrU32(unix.NETNSA_NSID, uint32(id)))
	}
	errs, err := c.do(reqs...)
	for i, id := range ask {
		if err == nil && (errs == nil || errs[i] == nil) {
			there = append(there, id)
		}
	}
	return there, err
}
