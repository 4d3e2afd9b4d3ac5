package linux

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kindTun is the kernel's kind of taps and of TUNs (drivers/net/tun.c).
const kindTun = "tun"

// WithTaps has taps and TUNs that are marked as ours be found as pairs are. It is called
// before anything is looked for.
func (n *Namespaces) WithTaps() { n.taps = true }

// Path is where another process of this machine that may look at the agent's can open
// the namespace, as long as it is open here.
func (ns *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }

// listed lists the interfaces of the kinds that are made here, and others' of these kinds.
func (n *Namespaces) listed(c *conn, nsid int) ([]Link, error) {
	links, err := dump(c, ofKind(kindVeth, nsid), parseLink)
	if err != nil || !n.taps {
		return links, err
	}
	// A kernel that has no taps yet knows no such kind, and lists everything.
	taps, err := dump(c, ofKind(kindTun, nsid), func(body []byte) (Link, bool) {
		l, ok := parseLink(body)
		return l, ok && l.Tun
	})
	return append(links, taps...), err
}

// ofKind is a dump of the interfaces of a kind.
func ofKind(kind string, nsid int) request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, target(nsid)...)
	return newRequest(unix.RTM_GETLINK, 0, append(parts, info, attrU32(unix.IFLA_EXT_MASK, skipStats))...)
}

// isTun reads an IFLA_LINKINFO.
func isTun(info []byte) bool {
	for kind, v := range attrs(info) {
		if kind == nl.IFLA_INFO_KIND {
			return text(v) == kindTun
		}
	}
	return false
}
