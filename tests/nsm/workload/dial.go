package workload

import (
	"time"

	"github.com/edwarnicke/grpcfd"
	"github.com/networkservicemesh/sdk/pkg/tools/token"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// dialOptions are those of NSM's commands (cmd-nsc), with a plain connection instead of
// SPIFFE's TLS.
func dialOptions(lifetime time.Duration) []grpc.DialOption {
	return []grpc.DialOption{
		grpcfd.WithChainStreamInterceptor(),
		grpcfd.WithChainUnaryInterceptor(),
		grpc.WithDefaultCallOptions(
			grpc.WaitForReady(true),
			grpc.PerRPCCredentials(plain{token.NewPerRPCCredentials(tokens(lifetime))}),
		),
		grpc.WithTransportCredentials(transport()),
	}
}

// transport passes descriptors over a plain connection.
func transport() credentials.TransportCredentials {
	return grpcfd.TransportCredentials(insecure.NewCredentials())
}

// tokens makes tokens that say nothing and last for lifetime.
func tokens(lifetime time.Duration) token.GeneratorFunc {
	return func(credentials.AuthInfo) (string, time.Time, error) {
		return "token", time.Now().Add(lifetime), nil
	}
}

// plain lets credentials go over a connection without TLS.
type plain struct{ credentials.PerRPCCredentials }

// RequireTransportSecurity of a unix socket is the file system's.
func (plain) RequireTransportSecurity() bool { return false }
