package admin

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/crossconnect"
)

// Describe gives all that is known of one cross-connect. A workload may ask for its own.
func (s *Server) Describe(ctx context.Context, in *adminpb.DescribeRequest) (*adminpb.DescribeResponse, error) {
	owner, root, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	desired, st, ok := s.CrossConnects.Lookup(in.Id)
	if !ok && root {
		if e := s.unconnected(ctx, in.Id); e != nil {
			return &adminpb.DescribeResponse{Crossconnect: e.Object.GetCrossconnect()}, nil
		}
	}
	if !ok || !root && desired.GetRequest().GetOwner() != owner {
		return nil, status.Errorf(codes.NotFound, "crossconnect %q is not there; list them with: patchbay get crossconnects", in.Id)
	}
	out := &adminpb.DescribeResponse{Crossconnect: view(crossconnect.Event{ID: in.Id, Desired: desired, Status: st}).Object.GetCrossconnect()}
	if desired != nil {
		out.Client = s.Counters(desired, models.ClientSide)
		out.Endpoint = s.Counters(desired, models.EndpointSide)
	}
	return out, nil
}
