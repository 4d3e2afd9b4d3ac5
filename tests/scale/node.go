package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"go.patchbay.dev/agent/lab"
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/manager"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/plugins/tunnel"
)

// node is one simulated node: the agent's own rooms over a dataplane in memory.
type node struct {
	name     string
	socket   string
	keys     models.Keys
	offer    *models.Agent
	peers    net.Listener // where other agents reach it
	identity *identity.Identity

	store   *store.Store
	engine  *reconcile.Engine
	records *crossconnect.Plugin
	manager *manager.Manager
	ttl     time.Duration // of its lease
}

// newNode makes a node, the first being 1.
func (s *simulation) newNode(number int) (*node, error) {
	n := &node{name: fmt.Sprintf("n%d", number), ttl: s.ttl}
	n.socket = filepath.Join(s.dir, n.name+".sock")
	n.keys = models.NewKeys(models.DefaultPrefix, n.name)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})).With("node", n.name)
	if err := n.identify(s, log); err != nil {
		return nil, err
	}
	var err error
	if n.store, err = store.Open(context.Background(), store.Config{Endpoints: []string{s.etcd.url}, Prefix: n.keys.Prefix, Log: log}); err != nil {
		return nil, err
	}
	n.engine = reconcile.New(reconcile.Options{Log: log, OnStatus: func(s reconcile.Status) { n.records.EngineStatus(s) }})
	reconcile.Register(n.engine, kindFake, newDataplane(s.takes))
	address := netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)})
	tunnels := tunnel.New(tunnel.Options{Node: n.name, Addresses: []netip.Addr{address}, Kernel: kernelTunnels{}, RunDir: s.dir, Log: log})
	vxlans := vxlan.New(tunnels)
	tunnels.Look(context.Background())
	n.offer = &models.Agent{Node: n.name, Version: "simulated", Dataplane: "kernel", Instance: n.name,
		Url: "tcp://" + n.peers.Addr().String(), Addresses: tunnels.Addresses(), Mtu: tunnels.Underlay(),
		Offers: append(vxlans.Offers(), &models.Offer{Type: "KERNEL", Dataplane: "kernel", Direct: true, Places: true, Version: 1}),
	}
	n.records = crossconnect.New(crossconnect.Options{
		Keys: n.keys, Store: n.store, Engine: n.engine, Mechanisms: []crossconnect.Mechanism{kernel{}, vxlans}, Log: log,
	})
	n.manager = manager.New(manager.Options{
		Keys: n.keys, Store: n.store, Records: n.records, Namespaces: namespaces{}, Observer: nobody{},
		Agent: func() *models.Agent { return n.offer }, Tunnels: tunnels, Identity: n.identity, Log: log,
	})
	n.records.Subscribe(func(e crossconnect.Event) { tunnels.Changed(e.ID, e.Desired) })
	n.records.Subscribe(func(e crossconnect.Event) { n.manager.Changed(e.ID, e.Desired, e.Status) })
	return n, nil
}

// identify gives the node a certificate and a place to listen.
func (n *node) identify(s *simulation, log *slog.Logger) (err error) {
	dir := filepath.Join(s.dir, n.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := s.authority.Issue(dir, lab.Identity{Node: n.name}); err != nil {
		return err
	}
	n.identity, err = identity.FromFiles(n.name, identity.Files{
		Cert: filepath.Join(dir, lab.CertFile), Key: filepath.Join(dir, lab.KeyFile), CA: filepath.Join(dir, lab.CAFile)}, log)
	if err == nil {
		n.peers, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return err
}

// start starts the rooms in the agent's order and waits until the node is ready.
func (n *node) start(ctx context.Context) error {
	run := context.Background()
	if err := n.records.Start(run); err != nil {
		return err
	}
	data, err := models.Marshal(n.offer)
	if err != nil {
		return err
	}
	values := make(chan []byte, 1)
	values <- data
	go n.store.Hold(run, n.keys.Agent(), n.ttl, values, nil)
	if err := n.manager.Start(run); err != nil {
		return err
	}
	for _, ready := range []<-chan struct{}{n.records.Ready(), n.manager.Loaded()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return fmt.Errorf("%s: not ready: %w", n.name, ctx.Err())
		}
	}
	n.manager.Ready(true)
	l, err := net.Listen("unix", n.socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	n.manager.Register(server)
	go server.Serve(l)
	agents := grpc.NewServer(grpc.Creds(n.identity.Server()))
	n.manager.RegisterPeers(agents)
	go agents.Serve(n.peers)
	return nil
}

// dial gives a workload's connection to the node's agent.
func (n *node) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(fdpass.Credentials()))
}

// namespaces are whatever a workload says.
type namespaces struct{}

var errNoNamespace = errors.New("the simulation has no network namespaces")

func (namespaces) FromDescriptor(*os.File, int) (string, error) { return "/run/netns/simulated", nil }
func (namespaces) FromPath(path string) (string, error)         { return path, nil }
func (namespaces) File(string) (*os.File, error)                { return nil, errNoNamespace }

// nobody counts requests.
type nobody struct{}

func (nobody) Request(string, codes.Code, time.Duration) {}
func (nobody) Negotiation(string, string)                {}
