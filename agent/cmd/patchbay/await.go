package main

import (
	"context"
	"slices"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

// upDue is how long a connection that an endpoint has accepted may take to come up.
const upDue = 15 * time.Second

// comesUp waits until the agent has programmed the connection that an endpoint has accepted
// as this path segment, and tells whether it did. For a user who may not ask it says so at
// once. A link that is still down is programmed as well.
func comesUp(ctx context.Context, agent *grpc.ClientConn, segment string) bool {
	ctx, cancel := context.WithTimeout(ctx, upDue)
	defer cancel()
	stream, err := adminpb.NewAdminClient(agent).List(ctx, &adminpb.ListRequest{Kind: "crossconnects", Watch: true})
	for err == nil {
		var e *adminpb.ListEvent
		if e, err = stream.Recv(); err != nil {
			break
		}
		x := e.GetObject().GetCrossconnect()
		if state := x.GetStatus().GetState(); (state == models.State_UP || state == models.State_DOWN) && passes(connectionOf(x.GetDesired()), segment) {
			return true
		}
	}
	return status.Code(err) == codes.PermissionDenied
}

// passes reports whether a connection's path has a segment with this id.
func passes(conn *networkservice.Connection, segment string) bool {
	return slices.ContainsFunc(conn.GetPath().GetPathSegments(),
		func(s *networkservice.PathSegment) bool { return s.GetId() == segment })
}
