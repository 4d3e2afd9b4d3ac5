package linux

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// scanAge is for how long a scan's finding nothing is believed, so that many references
// to namespaces that are gone cost one scan.
const scanAge = time.Second

// A finder knows on what paths the namespaces lie that came as descriptors.
type finder struct {
	mu      sync.Mutex
	paths   map[identity]string
	scanned time.Time
}

// bootHash is a short hash of what identifies this run of the kernel.
func bootHash() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:4]), nil
}

// FromDescriptor gives the lasting reference to the namespace behind a descriptor,
// opened with or without O_PATH, that the process pid has passed. The descriptor stays
// the caller's and need not be kept: the namespace will be found by the process that is
// in it or by where it is mounted. Errors wrap [ErrNoNamespace] when there is neither,
// [ErrNotNamespace] or [ErrOwnNamespace].
func (n *Namespaces) FromDescriptor(f *os.File, pid int) (string, error) {
	ns, err := n.take(int(f.Fd()), f.Name())
	runtime.KeepAlive(f)
	if err != nil {
		return "", err
	}
	ref, err := n.lasting(ns, pid)
	return ref, errors.Join(err, ns.Close())
}

func (n *Namespaces) lasting(ns *Namespace, pid int) (string, error) {
	c, err := ns.conn()
	if err != nil {
		return "", err
	}
	cookie, err := c.cookie()
	if err != nil {
		return "", err
	}
	r := ref{id: ns.id, cookie: cookie, boot: n.boot}
	ns.ref, ns.cookie = r.String(), cookie
	// While ns is open its inode is nobody else's, so that a path with it leads there.
	if ns.lies(n.finder.path(ns.id)) {
		return ns.ref, nil
	}
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	n.finder.hint(ns.id, path) // and not what a scan did not find a moment ago
	if ns.lies(path) {
		return ns.ref, nil
	}
	found, err := n.find(r)
	if err != nil {
		return "", err
	}
	return ns.ref, found.Close()
}

// lies tells whether a path leads to the namespace, so that others than the agent keep it.
func (ns *Namespace) lies(path string) bool {
	if time.Since(ns.seen) < fresh {
		return true
	}
	var st unix.Stat_t
	if path == "" || unix.Stat(path, &st) != nil || (identity{st.Dev, st.Ino}) != ns.id {
		return false
	}
	ns.seen = time.Now()
	return true
}

// find opens the namespace that once came as a descriptor.
func (n *Namespaces) find(r ref) (*Namespace, error) {
	if r.boot != n.boot {
		return nil, refError(r.String(), ErrNoNamespace, "the machine has been restarted since it was passed")
	}
	if r.id == n.own {
		if !n.allowOwn {
			return nil, refError(r.String(), ErrOwnNamespace, "")
		}
		n.finder.hint(r.id, "/proc/self/ns/net")
	}
	path := n.finder.path(r.id)
	if ns, err := n.verify(path, r); err == nil {
		return ns, nil
	}
	path, err := n.finder.scan(r.id, path, n.own.dev)
	if err != nil {
		return nil, err
	}
	return n.verify(path, r)
}

// verify opens the path if it leads to the namespace that r means.
func (n *Namespaces) verify(path string, r ref) (*Namespace, error) {
	gone := func() error {
		return refError(r.String(), ErrNoNamespace, "no process is in it and it is mounted nowhere")
	}
	if path == "" {
		return nil, gone()
	}
	ns, err := n.openPath(path)
	if err != nil {
		return nil, gone()
	}
	if ns.id == r.id {
		c, err := ns.conn()
		if err != nil {
			return nil, errors.Join(err, ns.Close())
		}
		if cookie, err := c.cookie(); err != nil {
			return nil, errors.Join(err, ns.Close())
		} else if cookie == r.cookie {
			ns.ref, ns.cookie = r.String(), cookie
			return ns, nil
		}
	}
	return nil, errors.Join(gone(), ns.Close())
}

func (f *finder) hint(id identity, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.paths == nil {
		f.paths = map[identity]string{}
	}
	f.paths[id] = path
}

func (f *finder) path(id identity) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paths[id]
}

// scan looks on the whole machine and returns where id lies now, empty if nowhere. It
// looks again only if the path that was tried is still what it knows and not just found.
func (f *finder) scan(id identity, tried string, dev uint64) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.paths[id]; p != tried || (p == "" && time.Since(f.scanned) < scanAge) {
		return p, nil
	}
	// Where they have names is the shortest list; where they are mounted is one file that
	// the kernel writes for every reader; where processes are is a file for each.
	if f.paths == nil {
		f.paths = map[identity]string{}
	}
	if byName(f.paths); f.paths[id] != tried && f.paths[id] != "" {
		return f.paths[id], nil
	}
	mounted := map[identity]string{}
	if err := mounts(mounted); err != nil {
		return "", fmt.Errorf("look for network namespaces: %w", err)
	}
	if path := mounted[id]; path != "" {
		f.paths[id] = path
		return path, nil
	}
	paths, err := everywhere(dev)
	if err != nil {
		return "", err
	}
	f.paths, f.scanned = paths, time.Now()
	return paths[id], nil
}

// byName adds the namespaces that have a name, as `ip netns` and container runtimes give
// them. Where there are none, or they cannot be seen, there are other ways to find one.
func byName(paths map[identity]string) {
	dir, err := os.Open(namedDir)
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		var st unix.Stat_t
		if path := namedDir + "/" + name; unix.Stat(path, &st) == nil {
			paths[identity{st.Dev, st.Ino}] = path
		}
	}
}

// Locate finds paths to the namespaces with these nsids, where there are any.
func (n *Namespaces) Locate(nsids map[int]bool) (refs []string, err error) {
	err = n.eachFound(func(c *conn, ns *Namespace) error {
		id, err := c.assigned(ns.fd)
		if err == nil && nsids[id] {
			refs = append(refs, ns.ref)
		}
		return err
	})
	return refs, err
}

// numberAll gives an nsid to every namespace that a path leads to.
func (n *Namespaces) numberAll() error {
	return n.eachFound(func(c *conn, ns *Namespace) error {
		_, err := c.nsid(ns.fd)
		return err
	})
}

// eachFound opens every namespace but the agent's own that a path leads to. c is a socket in
// the agent's own.
func (n *Namespaces) eachFound(f func(c *conn, ns *Namespace) error) error {
	paths, err := everywhere(n.own.dev)
	if err != nil {
		return err
	}
	delete(paths, n.own)
	return n.at(func(c *conn) error {
		for _, path := range paths {
			ns, err := n.openPath(path)
			if err != nil {
				continue // it has gone meanwhile
			}
			if err = errors.Join(f(c, ns), ns.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// everywhere finds all namespaces that a path leads to. dev is the device of nsfs.
func everywhere(dev uint64) (map[identity]string, error) {
	paths := map[identity]string{}
	if err := errors.Join(processes(dev, paths), mounts(paths)); err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	return paths, nil
}

// processes adds the namespaces that processes are in; dev is that of nsfs.
func processes(dev uint64, paths map[identity]string) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		path := "/proc/" + pid + "/ns/net"
		link, err := os.Readlink(path)
		if err != nil {
			continue // it has ended
		}
		if ino, ok := netInode(link); ok {
			paths[identity{dev, ino}] = path
		}
	}
	return nil
}

// mounts adds the namespaces that are mounted on a file, which last longer than a process.
func mounts(paths map[identity]string) error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if id, path, ok := parseMount(lines.Text()); ok {
			paths[id] = path
		}
	}
	return errors.Join(lines.Err(), file.Close())
}

// parseMount reads a line of mountinfo, see proc(5), if it mounts a network namespace:
// id, parent, major:minor, root, mount point and others.
func parseMount(line string) (identity, string, bool) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return identity{}, "", false
	}
	ino, ok := netInode(f[3])
	if !ok {
		return identity{}, "", false
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(f[2], "%d:%d", &major, &minor); err != nil {
		return identity{}, "", false
	}
	return identity{unix.Mkdev(major, minor), ino}, unescape(f[4]), true
}

// netInode reads "net:[4026531840]".
func netInode(s string) (uint64, bool) {
	s, ok1 := strings.CutPrefix(s, "net:[")
	s, ok2 := strings.CutSuffix(s, "]")
	ino, err := strconv.ParseUint(s, 10, 64)
	return ino, ok1 && ok2 && err == nil
}

// unescape undoes the octal escapes of mountinfo, \040 for a space.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
