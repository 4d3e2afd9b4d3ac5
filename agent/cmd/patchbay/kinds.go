package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

// listing is how one kind of object is shown in a table. The columns after narrow are for
// -o wide only; the first is the name.
type listing struct {
	name    string
	columns []string
	narrow  int
	cells   func(*adminpb.Object) []string
}

var listings = []listing{
	{"crossconnects", []string{"ID", "SERVICE", "PAYLOAD", "CLIENT", "ENDPOINT", "STATE", "REASON", "CLIENT-INTERFACE", "ENDPOINT-INTERFACE", "CLIENT-ADDRESSES", "ENDPOINT-ADDRESSES", "REVISION"}, 7, crossConnectCells},
	{"connections", []string{"ID", "SERVICE", "ENDPOINT", "MECHANISM", "STATE", "EXPIRES", "REASON", "ADDRESSES", "PEER-ADDRESSES", "OWNER"}, 7, connectionCells},
	{"services", []string{"NAME", "PAYLOAD", "MATCHES", "SELECTORS"}, 3, serviceCells},
	{"endpoints", []string{"NAME", "SERVICES", "NODE", "EXPIRES", "URL", "LABELS", "OWNER"}, 4, endpointCells},
	{"bridges", []string{"NAME", "SERVICE", "SUBNETS", "NODES", "MEMBERS", "STATE", "REASON", "GATEWAYS", "INTERCONNECT", "VNI", "MTU"}, 7, bridgeCells},
	{"agents", []string{"NODE", "DATAPLANE", "MECHANISMS", "VERSION", "ADDRESSES", "MTU", "URL", "MISSING"}, 4, agentCells},
	{"devices", []string{"ID", "POOL", "PF", "VF", "NUMA", "STATE", "CONNECTION", "REASON", "DRIVER", "GIVEN"}, 8, deviceCells},
}

// kindOf finds the kind that a user means, in the singular or the plural, among those that
// a command takes.
func kindOf(s string, kinds []string) (string, error) {
	for _, k := range kinds {
		if singular(s) == singular(k) {
			return k, nil
		}
	}
	return "", usage("kind %q is not possible here; use one of %s", s, strings.Join(kinds, ", "))
}

func singular(kind string) string { return strings.TrimSuffix(strings.ToLower(kind), "s") }

func (l listing) cut(cells []string, wide bool) []string {
	if wide {
		return cells
	}
	return cells[:l.narrow]
}

func (l listing) headings(wide bool) []string { return l.cut(slices.Clone(l.columns), wide) }

func (l listing) row(o *adminpb.Object, wide bool) []string { return l.cut(l.cells(o), wide) }

// inner is the object itself.
func inner(o *adminpb.Object) proto.Message {
	switch k := o.GetKind().(type) {
	case *adminpb.Object_Crossconnect:
		return k.Crossconnect
	case *adminpb.Object_Service:
		return k.Service
	case *adminpb.Object_Endpoint:
		return k.Endpoint
	case *adminpb.Object_Agent:
		return k.Agent
	case *adminpb.Object_Bridge:
		return k.Bridge
	case *adminpb.Object_Device:
		return k.Device
	}
	return o
}

func crossConnectCells(o *adminpb.Object) []string {
	x, s := o.GetCrossconnect().GetDesired(), o.GetCrossconnect().GetStatus()
	return []string{x.GetId(), x.GetNetworkService(), x.GetPayload(),
		x.GetClient().GetMechanism().GetType(), x.GetEndpoint().GetMechanism().GetType(),
		stateName(s), s.GetReason(), s.GetClient().GetInterface(), s.GetEndpoint().GetInterface(),
		strings.Join(x.GetClient().GetAddresses(), ","), strings.Join(x.GetEndpoint().GetAddresses(), ","),
		revision(s)}
}

func connectionCells(o *adminpb.Object) []string {
	x, s := o.GetCrossconnect().GetDesired(), o.GetCrossconnect().GetStatus()
	conn := connectionOf(x)
	return []string{x.GetId(), x.GetNetworkService(), conn.GetNetworkServiceEndpointName(),
		x.GetClient().GetMechanism().GetType(), stateName(s), until(x.GetRequest().GetExpires()), s.GetReason(),
		strings.Join(x.GetClient().GetAddresses(), ","), strings.Join(x.GetEndpoint().GetAddresses(), ","),
		x.GetRequest().GetOwner()}
}

// connectionOf is the connection of NSM that a cross-connect was made for, nil if none was.
func connectionOf(x *models.CrossConnect) *networkservice.Connection {
	conn := &networkservice.Connection{}
	if x.GetRequest().GetConnection() == nil || x.Request.Connection.UnmarshalTo(conn) != nil {
		return nil
	}
	return conn
}

func serviceCells(o *adminpb.Object) []string {
	s := o.GetService()
	var selectors []string
	for _, m := range s.GetMatches() {
		to := []string{}
		for _, r := range m.GetRoutes() {
			to = append(to, pairs(r.GetDestinationSelector()))
		}
		selectors = append(selectors, pairs(m.GetSourceSelector())+"->"+strings.Join(to, "|"))
	}
	return []string{s.GetName(), s.GetPayload(), fmt.Sprint(len(s.GetMatches())), strings.Join(selectors, " ")}
}

func endpointCells(o *adminpb.Object) []string {
	e := o.GetEndpoint()
	var labels []string
	for _, service := range slices.Sorted(maps.Keys(e.GetLabels())) {
		if l := e.Labels[service].GetLabels(); len(l) > 0 {
			labels = append(labels, service+":"+pairs(l))
		}
	}
	return []string{e.GetName(), strings.Join(e.GetServices(), ","), e.GetNode(), until(e.GetExpires()), e.GetUrl(),
		strings.Join(labels, " "), e.GetOwner()}
}

func agentCells(o *adminpb.Object) []string {
	a := o.GetAgent()
	var offers, missing []string
	for _, f := range a.GetOffers() {
		if f.GetMissing() != "" {
			missing = append(missing, f.Type+" "+f.Missing)
			continue
		}
		if !slices.Contains(offers, f.GetType()) { // a type may have an offer of each dataplane
			offers = append(offers, f.GetType())
		}
	}
	mtu := ""
	if a.GetMtu() != 0 {
		mtu = fmt.Sprint(a.Mtu)
	}
	return []string{a.GetNode(), a.GetDataplane(), strings.Join(offers, ","), a.GetVersion(),
		strings.Join(a.GetAddresses(), ","), mtu, a.GetUrl(), strings.Join(missing, "; ")}
}

func deviceCells(o *adminpb.Object) []string {
	d := o.GetDevice()
	return []string{d.GetId(), d.GetPool(), d.GetPf(), fmt.Sprint(d.GetVf()), known(d.Numa), deviceState(d), d.GetConnection(),
		d.GetReason(), d.GetDriver(), since(d.GetGiven())}
}

// deviceState is what a device is good for now.
func deviceState(d *adminpb.Device) string {
	switch {
	case !d.GetHealthy():
		return "UNHEALTHY"
	case d.GetConnection() != "":
		return "USED"
	}
	return "FREE"
}

// known is a number that may not be known.
func known(n *uint32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func stateName(s *models.CrossConnectStatus) string {
	if s.GetState() == models.State_STATE_UNSPECIFIED {
		return ""
	}
	return s.State.String()
}

func revision(s *models.CrossConnectStatus) string {
	if s.GetRevision() == 0 {
		return ""
	}
	return fmt.Sprint(s.Revision)
}

// until is how long something lasts, as kubectl shows times.
func until(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	left := time.Until(t.AsTime())
	if left <= 0 {
		return "expired"
	}
	return left.Round(time.Second).String()
}

// since is how long ago something was.
func since(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return time.Since(t.AsTime()).Round(time.Second).String() + " ago"
}

func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}
