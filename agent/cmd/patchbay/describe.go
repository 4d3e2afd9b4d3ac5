package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/mechanism/memif"
)

func newDescribe(a *app) *cobra.Command {
	var output string
	kinds := []string{"crossconnect", "connection", "bridge", "device"}
	cmd := &cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Show all of one cross-connect, bridge or device: desired, status, interfaces, counters",
		Long: `Describe shows what is desired of a cross-connect, what has become of it, each interface by
its name in the dataplane, its counters as the workload sees them, and what was negotiated and
why. A connection is the cross-connect with its id. Of a bridge it shows the members on all nodes,
and the ports, their counters and the MAC table of this node; of a device, a virtual function by
its PCI address, where it is, how it is and who has it.`,
		Example: `  patchbay describe crossconnect c1
  patchbay describe bridge lan1
  patchbay describe device 0000:3b:10.0`,
		ValidArgs: kinds,
		Args:      cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch kind, err := kindOf(args[0], kinds); {
			case err != nil:
				return err
			case kind == "bridge":
				return a.describeBridge(cmd.Context(), args[1], output)
			case kind == "device":
				return a.describeDevice(cmd.Context(), args[1], output)
			}
			return a.describe(cmd.Context(), args[1], output)
		},
	}
	addOutput(cmd, &output, asText, asJSON, asYAML)
	return cmd
}

func (a *app) describe(ctx context.Context, id, output string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var d *adminpb.DescribeResponse
	err := a.admin(func(c adminpb.AdminClient) (err error) {
		d, err = c.Describe(ctx, &adminpb.DescribeRequest{Id: id})
		return err
	})
	switch {
	case err != nil:
		return a.explained(err, "describe crossconnect %s", id)
	case output != asText:
		return printObject(a.out, output, d)
	}
	describeCrossConnect(a.out, d)
	return nil
}

// describeCrossConnect writes a field a line, those of a part below it.
func describeCrossConnect(w io.Writer, d *adminpb.DescribeResponse) {
	x, s := d.GetCrossconnect().GetDesired(), d.GetCrossconnect().GetStatus()
	field(w, 0, "ID", x.GetId())
	field(w, 0, "Service", x.GetNetworkService())
	field(w, 0, "Payload", x.GetPayload())
	if x.GetMtu() != 0 {
		field(w, 0, "MTU", fmt.Sprint(x.Mtu))
	}
	field(w, 0, "State", stateName(s))
	field(w, 0, "Reason", s.GetReason())
	field(w, 0, "Revision", revision(s))
	if conn := connectionOf(x); conn != nil {
		fmt.Fprintln(w, "Request:")
		field(w, 1, "Endpoint", conn.GetNetworkServiceEndpointName())
		field(w, 1, "Labels", pairs(conn.GetLabels()))
		field(w, 1, "Expires in", until(x.Request.GetExpires()))
		field(w, 1, "Owner", x.Request.GetOwner())
	}
	describeSide(w, "Client", x.GetClient(), s.GetClient(), d.GetClient())
	describeSide(w, "Endpoint", x.GetEndpoint(), s.GetEndpoint(), d.GetEndpoint())
	decision := s.GetDecision()
	if len(decision) == 0 {
		decision = x.GetDecision()
	}
	if len(decision) > 0 {
		fmt.Fprintln(w, "Decision:")
		for _, line := range decision {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

func describeSide(w io.Writer, name string, want *models.Attachment, s *models.AttachmentStatus, c *adminpb.Counters) {
	fmt.Fprintf(w, "%s:\n", name)
	m := want.GetMechanism()
	field(w, 1, "Mechanism", m.GetType())
	parameters := maps.Clone(m.GetParameters())
	field(w, 1, "Namespace", parameters["netns"])
	delete(parameters, "netns")
	if parameters[memif.Secret] != "" {
		parameters[memif.Secret] = "(hidden)"
	}
	field(w, 1, "Parameters", pairs(parameters))
	if s.GetInterface() != "" {
		link := "down"
		if s.GetLinkUp() {
			link = "up"
		}
		field(w, 1, "Interface", s.Interface+" (link "+link+")")
	}
	settled := maps.Clone(s.GetParameters())
	maps.DeleteFunc(settled, func(k, v string) bool { return m.GetParameters()[k] == v })
	field(w, 1, "Settled", pairs(settled))
	field(w, 1, "MAC", want.GetMac())
	field(w, 1, "Addresses", strings.Join(want.GetAddresses(), ", "))
	field(w, 1, "Routes", strings.Join(routes(want.GetRoutes()), ", "))
	for _, n := range want.GetNeighbors() {
		field(w, 1, "Neighbor", n.GetAddress()+" at "+n.GetMac())
	}
	for _, p := range want.GetPolicies() {
		field(w, 1, "Policy", policy(p))
	}
	if c != nil {
		field(w, 1, "Received", fmt.Sprintf("%d packets, %d bytes", c.ReceivePackets, c.ReceiveBytes))
		field(w, 1, "Sent", fmt.Sprintf("%d packets, %d bytes", c.TransmitPackets, c.TransmitBytes))
		field(w, 1, "Dropped", fmt.Sprint(c.Drops))
	}
}

// field writes one field unless it is empty.
func field(w io.Writer, depth int, name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%-16s%s\n", strings.Repeat("  ", depth)+name+":", value)
	}
}

func routes(list []*models.Route) (out []string) {
	for _, r := range list {
		if r.GetNextHop() == "" {
			out = append(out, r.GetPrefix())
		} else {
			out = append(out, r.GetPrefix()+" via "+r.GetNextHop())
		}
	}
	return out
}

func policy(p *models.Policy) string {
	var parts []string
	for _, f := range []struct{ name, value string }{
		{"from", p.GetFrom()}, {"protocol", p.GetProtocol()}, {"source port", p.GetSourcePort()}, {"destination port", p.GetDestinationPort()},
	} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	to := routes(p.GetRoutes())
	if len(to) == 0 {
		to = []string{"default"}
	}
	return strings.Join(slices.Concat(parts, []string{"routes " + strings.Join(to, " and ")}), ", ")
}
