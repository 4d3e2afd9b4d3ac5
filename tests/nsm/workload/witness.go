package workload

import (
	"context"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/sdk/pkg/networkservice/core/next"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// clientWitness is the last of a client's chain: it sees what goes over the wire, also
// when NSM's refresh and heal ask by themselves.
type clientWitness struct{ out *output }

// Request tells what was replied.
func (w *clientWitness) Request(ctx context.Context, in *networkservice.NetworkServiceRequest, opts ...grpc.CallOption) (*networkservice.Connection, error) {
	conn, err := next.Client(ctx).Request(ctx, in, opts...)
	w.out.tell(Event{What: Answered}.with(conn, err))
	return conn, err
}

// Close tells of it.
func (w *clientWitness) Close(ctx context.Context, conn *networkservice.Connection, opts ...grpc.CallOption) (*emptypb.Empty, error) {
	out, err := next.Client(ctx).Close(ctx, conn, opts...)
	w.out.tell(Event{What: Closed}.with(conn, err))
	return out, err
}

// serverWitness is the first of an endpoint's additional functionality.
type serverWitness struct{ out *output }

// Request tells what the endpoint replies.
func (w *serverWitness) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	conn, err := next.Server(ctx).Request(ctx, in)
	w.out.tell(Event{What: Answered}.with(conn, err))
	return conn, err
}

// Close tells of it.
func (w *serverWitness) Close(ctx context.Context, conn *networkservice.Connection) (*emptypb.Empty, error) {
	out, err := next.Server(ctx).Close(ctx, conn)
	w.out.tell(Event{What: Closed}.with(conn, err))
	return out, err
}
