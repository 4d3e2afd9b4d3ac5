//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.patchbay.dev/agent/process"
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/tests/lab"
)

// leastEnv makes this program the least agent, as its JSON says.
const leastEnv = "BENCH_LEAST_AGENT"

// least is a process that does of a request what no agent can do without, and nothing else:
// it takes the client's descriptor, asks the endpoint, and puts the record, in JSON, and makes
// the bare floor's calls, both at the same time. It checks, chooses, negotiates, watches and
// logs nothing. Idle for as long as the agent between two requests, and with a heap like the agent's,
// it tells how near to the floor an agent on this machine can come at all.
type least struct {
	networkservice.UnimplementedNetworkServiceServer
	endpoint networkservice.NetworkServiceClient
	store    *store.Store
	dataplane
	undo sync.Map // by id of the connection: a func() error
}

// dataplane makes the connection between two ends and says how it is undone.
type dataplane interface {
	connect(ctx context.Context, client, endpoint end) (undo func() error, err error)
	mechanism() *networkservice.Mechanism // that the endpoint is offered
}

// end is a mechanism of a peer, which may have passed a descriptor with it.
type end struct {
	*networkservice.Mechanism
	passed *fdpass.Conn
	pid    int
}

// leastConfig is what the process is told. Of VPP, empty is the kernel.
type leastConfig struct{ Dir, Endpoint, VPP, RunDir string }

func (c leastConfig) socket() string { return filepath.Join(c.Dir, "least.sock") }

// newLeast starts a least agent in front of one endpoint and gives a client of it.
func newLeast(t *testing.T, e *lab.Endpoint, vpp, runDir string) *lab.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := leastConfig{dir, e.Socket(), vpp, runDir}
	text, err := json.Marshal(config)
	check(t, err)
	startSelf(t, leastEnv, string(text))
	cc, err := dialFDs(config.socket())
	check(t, err)
	t.Cleanup(func() { cc.Close() })
	lab.Eventually(t, 10*time.Second, "the least agent", func() error { _, err := os.Stat(config.socket()); return err })
	return lab.NewClient(t, cc)
}

// runLeast serves until it is killed.
func runLeast(text string) {
	defer runtime.KeepAlive(process.PrepareHeap())
	var config leastConfig
	err := json.Unmarshal([]byte(text), &config)
	if err == nil {
		err = config.serve()
	}
	fmt.Fprintln(os.Stderr, "the least agent:", err)
	os.Exit(1)
}

func (c leastConfig) serve() error {
	cc, err := dialFDs(c.Endpoint)
	if err != nil {
		return err
	}
	a := &least{endpoint: networkservice.NewNetworkServiceClient(cc)}
	if a.store, err = store.Open(context.Background(), store.Config{DataDir: c.Dir}); err != nil {
		return err
	}
	if c.VPP != "" {
		a.dataplane, err = leastOnVPP(c)
	} else {
		a.dataplane, err = leastOnKernel(c)
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", c.socket())
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	networkservice.RegisterNetworkServiceServer(s, a)
	return s.Serve(l)
}

func dialFDs(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(fdpass.Credentials()))
}

// Request connects a client to the endpoint.
func (a *least) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	own, _ := fdpass.FromContext(ctx)
	conn := in.Connection
	conn.Path.Index++
	conn.Path.PathSegments = append(conn.Path.PathSegments, &networkservice.PathSegment{Name: "least", Id: conn.Id, Expires: conn.Path.PathSegments[0].Expires})
	conn.Mechanism = nil
	var from grpcpeer.Peer
	out, err := a.endpoint.Request(ctx, &networkservice.NetworkServiceRequest{Connection: conn,
		MechanismPreferences: []*networkservice.Mechanism{a.mechanism()}}, grpc.Peer(&from))
	if err != nil {
		return nil, err
	}
	far, _ := fdpass.FromPeer(&from)
	durable := make(chan error, 1)
	go func() { durable <- a.put(ctx, in.MechanismPreferences[0], out) }()
	client := end{in.MechanismPreferences[0], own, int(own.Peer().PID)}
	undo, err := a.connect(ctx, client, end{out.Mechanism, far, int(far.Peer().PID)})
	if failed := <-durable; err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	a.undo.Store(conn.Id, undo)
	out.Mechanism = client.Mechanism
	out.Path.Index--
	return out, nil
}

// put writes the record of a connection.
func (a *least) put(ctx context.Context, client *networkservice.Mechanism, answer *networkservice.Connection) error {
	packed, err := anypb.New(answer)
	if err != nil {
		return err
	}
	ip := answer.GetContext().GetIpContext()
	data, err := models.Marshal(&models.CrossConnect{
		Id: answer.Id, NetworkService: answer.NetworkService, Payload: answer.Payload,
		Client:   &models.Attachment{Mechanism: &models.Mechanism{Type: client.Type, Parameters: client.Parameters}, Addresses: ip.GetSrcIpAddrs()},
		Endpoint: &models.Attachment{Mechanism: &models.Mechanism{Type: answer.Mechanism.Type, Parameters: answer.Mechanism.Parameters}, Addresses: ip.GetDstIpAddrs()},
		Request:  &models.Request{Connection: packed, Expires: answer.Path.PathSegments[0].Expires},
	})
	if err == nil {
		_, err = a.store.Put(ctx, "/floor", data)
	}
	return err
}

// Close undoes a connection.
func (a *least) Close(_ context.Context, conn *networkservice.Connection) (*emptypb.Empty, error) {
	undo, ok := a.undo.LoadAndDelete(conn.Id)
	if !ok {
		return nil, fmt.Errorf("no connection %q", conn.Id)
	}
	return &emptypb.Empty{}, undo.(func() error)()
}
