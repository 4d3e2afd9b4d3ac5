package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

type transport struct{}

// Credentials are a server's or client's transport credentials on a unix socket. They
// encrypt nothing. A connection that is no unix socket is refused: nothing would say who is
// at its other end.
func Credentials() credentials.TransportCredentials { return transport{} }

func (transport) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return wrap(conn)
}

func (transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return wrap(conn)
}

func wrap(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("connection with %s is not on a unix socket, which passing descriptors needs", conn.RemoteAddr())
	}
	p, err := identifyPeer(u)
	if err != nil {
		return nil, nil, fmt.Errorf("identify the peer: %w", err)
	}
	s := &stream{Conn: u, unix: u, passed: &Conn{peer: p}, oob: make([]byte, unix.CmsgSpace(maxRights*4))}
	return s, s.passed, nil
}

func (transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "fdpass"}
}

func (t transport) Clone() credentials.TransportCredentials { return t }

func (transport) OverrideServerName(string) error { return nil }

// Send is a call's option that passes the files to the server ahead of the call, on a
// connection dialled with [Credentials]; the call names them by their [URL]. The files must
// stay open until the call returns, for it may be tried on another connection. The option is
// a grpc.PerRPCCredentials, of which a call has one.
func Send(files ...*os.File) grpc.CallOption { return grpc.PerRPCCredentials(sender(files)) }

type sender []*os.File

// GetRequestMetadata adds no metadata. It is where gRPC, having chosen the connection of a
// call and before it writes the call's headers, hands out the connection's AuthInfo.
func (s sender) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	c, ok := FromContext(ctx)
	if !ok {
		return nil, errors.New("send descriptors: the connection was not dialled with the credentials of fdpass")
	}
	for _, f := range s {
		switch err := c.Send(f); {
		case errors.Is(err, net.ErrClosed):
			return nil, status.Error(codes.Unavailable, err.Error())
		case err != nil:
			return nil, err
		}
	}
	return nil, nil
}

func (sender) RequireTransportSecurity() bool { return false }
