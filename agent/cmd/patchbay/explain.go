package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"go.patchbay.dev/plugins/admin/adminpb"
)

func newExplain(a *app) *cobra.Command {
	var client, endpoint, labels []string
	var payload, path, service, node, pool, output string
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Negotiate without connecting: which mechanism would be chosen, and why not the others",
		Long: `Explain says which mechanisms a client on this node and an endpoint here or on another node
would get, and for every one that was not taken the reason. What is not given is whatever the
node offers. With --service it also says which endpoints a client with these labels would be
sent to. Exit status 1: nothing fits.`,
		Example: `  patchbay explain --client VXLAN --endpoint VXLAN,GRE --payload ETHERNET
  patchbay explain --service firewall --label app=web`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := &adminpb.ExplainRequest{Service: service, Path: path, Node: node, Pool: pool}
			if service != "" && len(endpoint) > 0 {
				return usage("--service brings the endpoints; leave out --endpoint")
			}
			var err error
			if in.Client, err = parseTypes(client); err != nil {
				return err
			}
			if in.Endpoint, err = parseTypes(endpoint); err != nil {
				return err
			}
			if in.Payload, err = parsePayload(payload); err != nil {
				return err
			}
			if in.Labels, err = parseLabels(labels); err != nil {
				return err
			}
			return a.explain(cmd.Context(), in, output)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&client, "client", nil, "mechanism types of the client, in order of preference")
	fl.StringSliceVar(&endpoint, "endpoint", nil, "mechanism types of the endpoint")
	fl.StringVar(&payload, "payload", "", "ETHERNET or IP")
	fl.StringVar(&path, "path", "", "direct or forwarder, the policy of the network service (default the node's)")
	fl.StringVar(&node, "node", "", "node of the endpoint (default that of the service's endpoint, else the agent's own)")
	fl.StringVar(&service, "service", "", "network service whose endpoints would be asked")
	fl.StringVar(&pool, "pool", "", "pool of virtual functions that the client asks for one of: also says which it would get, and why not the others")
	fl.StringArrayVar(&labels, "label", nil, "label key=value of the client; may be repeated")
	addOutput(cmd, &output, asText, asJSON, asYAML)
	return cmd
}

var errNothingFits = errors.New("explain: nothing fits both ends; the reasons say what to change")

func (a *app) explain(ctx context.Context, in *adminpb.ExplainRequest, output string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out *adminpb.ExplainResponse
	err := a.admin(func(c adminpb.AdminClient) (err error) {
		out, err = c.Explain(ctx, in)
		return err
	})
	if err != nil {
		return a.explained(err, "explain")
	}
	if output != asText {
		err = printObject(a.out, output, out)
	} else {
		a.printExplanation(out)
	}
	if err == nil && out.GetClient() == "" {
		return errNothingFits
	}
	return err
}

func (a *app) printExplanation(out *adminpb.ExplainResponse) {
	if out.GetClient() != "" {
		tunnel := ""
		if out.GetTunnel() != "" {
			tunnel = ", " + out.Tunnel + " between their nodes"
		}
		fmt.Fprintf(a.out, "Chosen: %s at the client, %s at the endpoint%s\n", out.Client, out.Endpoint, tunnel)
	} else {
		fmt.Fprintln(a.out, "Chosen: nothing")
	}
	if len(out.GetCandidates()) > 0 {
		fmt.Fprintf(a.out, "Endpoints: %s\n", strings.Join(out.Candidates, ", "))
	}
	if len(out.GetReasons()) > 0 {
		fmt.Fprintln(a.out, "Reasons:")
		for _, r := range out.Reasons {
			fmt.Fprintf(a.out, "  %s\n", r)
		}
	}
}
