package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/manager"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// node is one simulated node: the agent's own rooms over a dataplane in memory.
type node struct {
	name   string
	socket string
	keys   models.Keys
	offer  *models.Agent

	store   *store.Store
	engine  *reconcile.Engine
	records *crossconnect.Plugin
	manager *manager.Manager
	servers []*grpc.Server
	stop    context.CancelFunc
}

// local is the mechanism that workloads have here.
const local = "MEMIF"

// offerTTL is that of the agent.
const offerTTL = 2 * time.Second

func newNode(number int, etcd, dir string, takes time.Duration) (*node, error) {
	n := &node{name: fmt.Sprintf("n%d", number)}
	n.socket = filepath.Join(dir, n.name+".sock")
	n.keys = models.NewKeys(models.DefaultPrefix, n.name)
	n.offer = &models.Agent{Node: n.name, Version: "simulated", Dataplane: "vpp", Offers: []*models.Offer{
		{Type: local, Dataplane: "vpp", SharedMemory: true, Joins: true, Version: 1},
	}}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("node", n.name)
	s, err := store.Open(context.Background(), store.Config{Endpoints: []string{etcd}, Prefix: n.keys.Prefix, Log: log})
	if err != nil {
		return nil, err
	}
	n.store = s
	n.engine = reconcile.New(reconcile.Options{Log: log, OnStatus: func(s reconcile.Status) { n.records.EngineStatus(s) }})
	world := newDataplane(takes)
	reconcile.Register(n.engine, kindFake, world)
	n.records = crossconnect.New(crossconnect.Options{
		Keys: n.keys, Store: n.store, Engine: n.engine, Mechanisms: []crossconnect.Mechanism{mechanism{local}}, Joiner: world, Log: log,
	})
	n.manager = manager.New(manager.Options{
		Keys: n.keys, Store: n.store, Records: n.records, Namespaces: noNamespaces{}, Observer: nobody{},
		Agent: func() *models.Agent { return n.offer }, Log: log,
	})
	n.records.Subscribe(func(e crossconnect.Event) { n.manager.Changed(e.ID, e.Desired, e.Status) })
	return n, nil
}

// start starts the rooms in the agent's order and waits until the node is ready.
func (n *node) start(ctx context.Context) error {
	var run context.Context
	run, n.stop = context.WithCancel(context.Background())
	if err := n.records.Start(run); err != nil {
		return err
	}
	data, err := models.Marshal(n.offer)
	if err != nil {
		return err
	}
	values := make(chan []byte, 1)
	values <- data
	go n.store.Hold(run, n.keys.Agent(), offerTTL, values, nil)
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
	n.serve(server, l)
	return nil
}

func (n *node) serve(server *grpc.Server, l net.Listener) {
	n.servers = append(n.servers, server)
	go server.Serve(l)
}

// die ends the node as a power cut does: nothing is taken back.
func (n *node) die() {
	for _, s := range n.servers {
		s.Stop()
	}
	n.store.Close()
	n.stop()
	n.manager.Stop()
	n.records.Stop()
	n.engine.Stop()
}

// dial gives a workload's connection to the node's agent.
func (n *node) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(fdpass.Credentials()))
}

// noNamespaces: workloads here have sockets.
type noNamespaces struct{}

var errNoNamespace = errors.New("the simulation has no network namespaces")

func (noNamespaces) FromDescriptor(*os.File, int) (string, error) { return "", errNoNamespace }
func (noNamespaces) FromPath(string) (string, error)              { return "", errNoNamespace }
func (noNamespaces) File(string) (*os.File, error)                { return nil, errNoNamespace }

// nobody counts requests.
type nobody struct{}

func (nobody) Request(string, codes.Code, time.Duration) {}
func (nobody) Negotiation(string, string)                {}
