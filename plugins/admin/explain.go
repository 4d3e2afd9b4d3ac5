package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/negotiation"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/manager"
)

// Explain negotiates without doing it: with the ends that the caller makes up, the client on
// this node as it is and the endpoint there or on another. What fits nowhere is an answer too, not an error.
func (s *Server) Explain(ctx context.Context, in *adminpb.ExplainRequest) (*adminpb.ExplainResponse, error) {
	if err := s.rootOnly(ctx, "ask for an explanation"); err != nil {
		return nil, err
	}
	out := &adminpb.ExplainResponse{}
	bridged := false
	if in.Service != "" {
		list, err := s.Registry.Candidates(in.Service, in.Labels)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			out.Candidates = append(out.Candidates, e.Name)
		}
		in.Node = cmp.Or(in.Node, list[0].Node)
		bridged = manager.IsBridge(list[0])
	}
	to := s.Agent()
	if in.Node != "" && in.Node != s.Keys.Node {
		if to = s.Registry.Node(in.Node); to == nil {
			return nil, status.Errorf(codes.NotFound, "node %q is not there; list those that are with: patchbay get agents", in.Node)
		}
		if err := s.Registry.Reach(to); err != nil {
			out.Reasons = []string{"endpoint: " + status.Convert(err).Message()}
			return out, nil
		}
	}
	path := cmp.Or(in.Path, s.Path)
	if path != "" && path != models.DirectPath && path != models.ForwarderPath {
		return nil, status.Errorf(codes.InvalidArgument, "path: %q is not known; use direct or forwarder", path)
	}
	q := negotiation.Request{
		Client:    negotiation.End{Node: s.Agent(), Speaks: in.Client},
		Endpoint:  negotiation.End{Node: to, Speaks: in.Endpoint},
		Payload:   in.Payload,
		Prefer:    s.Prefer,
		Direct:    path == models.DirectPath,
		Forwarder: path == models.ForwarderPath,
	}
	var devices []string
	free := true
	if in.Pool != "" {
		var err error
		if devices, free, err = s.explainPool(in.Pool); err != nil {
			return nil, err
		}
		q.Client.Devices = cardTypes(s.Agent())
		if len(q.Client.Speaks) == 0 {
			q.Client.Speaks = q.Client.Devices
		}
	}
	if bridged {
		q.Endpoint.Speaks, q.Payload = []string{models.BridgeMechanism}, cmp.Or(q.Payload, models.Ethernet)
	}
	d, err := negotiation.Decide(q)
	var none *negotiation.NoneError
	switch {
	case errors.As(err, &none):
		out.Reasons = none.Reasons
	case err != nil:
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case !free:
	default:
		out.Client, out.Endpoint, out.Tunnel, out.Reasons = d.Client.GetType(), d.Endpoint.GetType(), d.Tunnel.GetType(), d.Reasons
		out.Reasons = append(out.Reasons, otherPaths(q, d)...)
	}
	out.Reasons = append(out.Reasons, devices...)
	return out, nil
}

// explainPool says which device of a pool a client would get now, and why not each of the others.
func (s *Server) explainPool(pool string) (lines []string, free bool, err error) {
	if s.Devices == nil {
		return nil, false, status.Error(codes.FailedPrecondition, "pool: this node has no pools of virtual functions; configure sriov.pools")
	}
	if lines, free, err = s.Devices.Explain(pool); err != nil {
		err = status.Errorf(codes.InvalidArgument, "pool: %v", err)
	}
	return lines, free, err
}

// cardTypes are the mechanisms by which a workload of a node can have a device of a card.
func cardTypes(node *models.Agent) (types []string) {
	for _, o := range node.GetOffers() {
		if o.Dataplane == models.CardDataplane && o.Type != "NOOP" {
			types = append(types, o.Type)
		}
	}
	return types
}

// otherPaths says what another policy for the path would have given.
func otherPaths(q negotiation.Request, taken *negotiation.Decision) (lines []string) {
	for _, path := range []string{models.DirectPath, models.ForwarderPath} {
		q.Direct, q.Forwarder = path == models.DirectPath, path == models.ForwarderPath
		if d, err := negotiation.Decide(q); err == nil && (d.Direct || d.Placed) != (taken.Direct || taken.Placed) {
			how := "through the forwarder"
			if d.Direct || d.Placed {
				how = "with nothing in between"
			}
			lines = append(lines, fmt.Sprintf("policy path %s would give %s at the client and %s at the endpoint, %s", path, d.Client.GetType(), d.Endpoint.GetType(), how))
		}
	}
	return lines
}
