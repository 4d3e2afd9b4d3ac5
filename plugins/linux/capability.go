package linux

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Missing says in words why the agent cannot make interfaces on this machine; empty
// means that it can. It tries without making anything.
func (n *Namespaces) Missing() string {
	if err := n.visiting(func(enter func(fd int) error) error { return enter(n.ownFd) }); err != nil {
		if errors.Is(err, unix.EPERM) {
			return "CAP_SYS_ADMIN, which is needed to enter network namespaces; run the agent as root"
		}
		return err.Error()
	}
	// An Ethernet address of one byte is refused only by a kernel that knows the kind.
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_ADDRESS, []byte{2}), linkInfo(kindVeth, nil))
	c, err := newConn(new(atomic.Uint64)) // it changes nothing, so it does not count
	if err != nil {
		return err.Error()
	}
	err = c.one(r)
	if e := c.close(); e != nil {
		return e.Error()
	}
	switch {
	case errors.Is(err, unix.EINVAL):
		return ""
	case errors.Is(err, unix.EPERM):
		return "CAP_NET_ADMIN, which is needed to make interfaces; run the agent as root"
	case errors.Is(err, unix.EOPNOTSUPP):
		return "veth interfaces; load the module with: modprobe veth"
	}
	return fmt.Sprintf("veth interfaces: the kernel answers %v", err)
}

// kernelAtLeast compares the release of the running kernel.
func kernelAtLeast(major, minor int) (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false, fmt.Errorf("the kernel's release %q: %w", release, err)
	}
	return a > major || (a == major && b >= minor), nil
}
