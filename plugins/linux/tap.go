package linux

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kindTun is the kernel's kind of taps and of TUNs (drivers/net/tun.c).
const kindTun = "tun"

// WithTaps has namespaces watched that taps keep alive. It is called before any is.
func (n *Namespaces) WithTaps() { n.taps = true }

// Path is where another process of this machine that may look at the agent's can open
// the namespace, as long as it is open here.
func (ns *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }

// listed lists all interfaces, whoever made them. Of those that are made here there are
// more kinds than other interfaces beside them.
func (n *Namespaces) listed(c *conn, nsid int) ([]Link, error) {
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, target(nsid)...)
	return dump(c, newRequest(unix.RTM_GETLINK, 0, append(parts, attrU32(unix.IFLA_EXT_MASK, skipStats))...), parseLink)
}

// ofKind is a dump of the interfaces of a kind.
func ofKind(kind string, nsid int) request {
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, target(nsid)...)
	return newRequest(unix.RTM_GETLINK, 0, append(parts, linkInfo(kind, nil), attrU32(unix.IFLA_EXT_MASK, skipStats))...)
}
