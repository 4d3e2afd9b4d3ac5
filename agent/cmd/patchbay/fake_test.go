package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/fdpass"
)

// patience is how long a test waits for what should come at once or soon.
const patience = 20 * time.Second

// fakeAdmin answers with what it is told to and remembers what was asked.
type fakeAdmin struct {
	adminpb.UnimplementedAdminServer
	err      error
	events   []*adminpb.ListEvent
	describe *adminpb.DescribeResponse
	bridge   *adminpb.DescribeBridgeResponse
	explain  *adminpb.ExplainResponse

	mu    sync.Mutex
	asked []any
}

func (f *fakeAdmin) ask(in any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, in)
	return f.err
}

// request is the nth that was asked.
func (f *fakeAdmin) request(n int) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n >= len(f.asked) {
		return nil
	}
	return f.asked[n]
}

func (f *fakeAdmin) List(in *adminpb.ListRequest, out grpc.ServerStreamingServer[adminpb.ListEvent]) error {
	if err := f.ask(in); err != nil {
		return err
	}
	for _, e := range f.events {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeAdmin) Describe(_ context.Context, in *adminpb.DescribeRequest) (*adminpb.DescribeResponse, error) {
	return f.describe, f.ask(in)
}

func (f *fakeAdmin) DescribeBridge(_ context.Context, in *adminpb.DescribeBridgeRequest) (*adminpb.DescribeBridgeResponse, error) {
	return f.bridge, f.ask(in)
}

func (f *fakeAdmin) Explain(_ context.Context, in *adminpb.ExplainRequest) (*adminpb.ExplainResponse, error) {
	return f.explain, f.ask(in)
}

func (f *fakeAdmin) Apply(_ context.Context, in *adminpb.ApplyRequest) (*adminpb.ApplyResponse, error) {
	return &adminpb.ApplyResponse{Name: "c1", Change: "created"}, f.ask(in)
}

func (f *fakeAdmin) Delete(_ context.Context, in *adminpb.DeleteRequest) (*adminpb.DeleteResponse, error) {
	return &adminpb.DeleteResponse{}, f.ask(in)
}

func (f *fakeAdmin) Version(_ context.Context, in *adminpb.VersionRequest) (*adminpb.VersionResponse, error) {
	return &adminpb.VersionResponse{Version: "v1", Node: "n1", Dataplane: "kernel"}, f.ask(in)
}

// serveOn runs a gRPC server on a socket of its own and gives its URL.
func serveOn(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	register(g)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return "unix://" + socket
}

func (f *fakeAdmin) start(t *testing.T) string {
	t.Helper()
	return serveOn(t, func(g *grpc.Server) { adminpb.RegisterAdminServer(g, f) })
}

// buffer is written by several goroutines and tells when it has grown.
type buffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{}
}

func newBuffer() *buffer { return &buffer{grown: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.grown <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until what was written is as it should be.
func (b *buffer) await(t *testing.T, what string, ok func(string) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok(b.String()) {
		select {
		case <-b.grown:
		case <-deadline:
			t.Fatalf("in vain waited for %s in:\n%s", what, b.String())
		}
	}
}

// result is what a command line did.
type result struct {
	status   int
	out, err string
}

// patchbay runs one command line to its end.
func patchbay(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(file, []byte(stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, errOut := newBuffer(), newBuffer()
	status := execute(args, in, out, errOut)
	return result{status, out.String(), errOut.String()}
}
