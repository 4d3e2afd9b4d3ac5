package models

import "net/netip"

// TunnelPath is what tunnels between two nodes go through, as one of them sees it: the
// addresses that they end at.
type TunnelPath struct{ Local, Remote netip.Addr }
