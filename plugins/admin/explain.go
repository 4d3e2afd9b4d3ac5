package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/negotiation"
	"go.patchbay.dev/plugins/admin/adminpb"
)

// Explain negotiates without doing it: with the ends that the caller makes up, on this
// node as it is. What fits nowhere is an answer too, not an error.
func (s *Server) Explain(ctx context.Context, in *adminpb.ExplainRequest) (*adminpb.ExplainResponse, error) {
	if err := s.rootOnly(ctx, "ask for an explanation"); err != nil {
		return nil, err
	}
	out := &adminpb.ExplainResponse{}
	if in.Service != "" {
		list, err := s.Registry.Candidates(in.Service, in.Labels)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			out.Candidates = append(out.Candidates, e.Name)
		}
	}
	d, err := negotiation.Decide(negotiation.Request{
		Client:   negotiation.End{Node: s.Agent(), Speaks: in.Client},
		Endpoint: negotiation.End{Node: s.Agent(), Speaks: in.Endpoint},
		Payload:  in.Payload,
		Prefer:   s.Prefer,
	})
	var none *negotiation.NoneError
	switch {
	case errors.As(err, &none):
		out.Reasons = none.Reasons
	case err != nil:
		return nil, status.Error(codes.InvalidArgument, err.Error())
	default:
		out.Client, out.Endpoint, out.Reasons = d.Client.GetType(), d.Endpoint.GetType(), d.Reasons
	}
	return out, nil
}
