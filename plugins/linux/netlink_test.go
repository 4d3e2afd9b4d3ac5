package linux

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParse feeds the readers of kernel messages what no kernel sends.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 64))
	f.Add(addressRequest(unix.RTM_NEWADDR, 0, 2, prefix("10.0.0.1/24")).Serialize())
	f.Add(ruleRequest(unix.RTM_NEWRULE, 0, 2, Rule{Policy: 1, From: prefix("10.0.0.0/8"), SourcePorts: Ports{1, 2}}).Serialize())
	f.Add(routeRequest(unix.RTM_NEWROUTE, 0, 2, Route{Prefix: prefix("10.0.0.0/8")}).Serialize())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, body := range [][]byte{b, b[min(len(b), unix.NLMSG_HDRLEN):]} {
			parseLink(body)
			parseNSID(body)
			parseAddress(body)
			parseRoute(body)
			parseNeighbor(body)
			parseRule(body)
			sender(body)
			if err := ackError(unix.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_ACK_TLVS}, body); err != nil && err.Error() == "" {
				t.Error("an error without words")
			}
		}
		if err := messages(b, func(unix.NlMsghdr, []byte) {}); err != nil && len(b) < unix.NLMSG_HDRLEN {
			t.Error(err)
		}
	})
}

func TestRequestsAreReadBackByTheReaders(t *testing.T) {
	body := func(r request) []byte { return r.Serialize()[unix.NLMSG_HDRLEN:] }
	for _, p := range []string{"10.0.0.1/24", "fd00::1/64"} {
		if f, ok := parseAddress(body(addressRequest(unix.RTM_NEWADDR, 0, 7, prefix(p)))); !ok || f.index != 7 || f.prefix != prefix(p) || !f.ours {
			t.Errorf("address %s is read as %+v", p, f)
		}
	}
	for _, r := range config.Routes {
		if f, ok := parseRoute(body(routeRequest(unix.RTM_NEWROUTE, 0, 7, r))); !ok || f.index != 7 || f.route != r {
			t.Errorf("%+v is read as %+v", r, f)
		}
	}
	for _, n := range config.Neighbors {
		if f, ok := parseNeighbor(body(neighborRequest(unix.RTM_NEWNEIGH, 0, 7, n))); !ok || f.index != 7 || f.neighbor != n {
			t.Errorf("%+v is read as %+v", n, f)
		}
	}
	for _, r := range config.Rules {
		if f, ok := parseRule(body(ruleRequest(unix.RTM_NEWRULE, 0, 7, r))); !ok || f.table != Table(7, r.Policy) || f.rule != r {
			t.Errorf("%+v is read as %+v", r, f)
		}
	}
}
