package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/linux"
)

// callTimeout bounds a call that only asks or writes.
const callTimeout = 10 * time.Second

// dial gives the connection to the agent; it is made by the first call.
func (a *app) dial() (*grpc.ClientConn, error) {
	path, ok := strings.CutPrefix(a.agent, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return nil, usage("agent %q: use unix:///path of the agent's socket", a.agent)
	}
	return grpc.NewClient(a.agent,
		grpc.WithTransportCredentials(fdpass.Credentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			// A socket of this machine costs nothing to try: an agent that comes back is
			// found soon.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: callTimeout,
		}),
	)
}

// admin calls f with a client of the agent's admin API.
func (a *app) admin(f func(adminpb.AdminClient) error) error {
	cc, err := a.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	return f(adminpb.NewAdminClient(cc))
}

// pathOf is the path of a network namespace given by name or path, empty for our own.
func pathOf(netns string) string {
	path, err := linux.Canonical(netns)
	if err != nil {
		return ""
	}
	return path
}

// openNetns opens a network namespace by name or path, to be passed on; empty is our own.
func openNetns(netns string) (*os.File, error) {
	path := "/proc/thread-self/ns/net"
	if netns != "" {
		var err error
		if path, err = linux.Canonical(netns); err != nil {
			return nil, &usageError{err}
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w; list those with a name by: ip netns", netns, err)
	}
	return f, nil
}
