package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"go.patchbay.dev/agent/cmd/patchbay/endpoint"
	"go.patchbay.dev/plugins/fdpass"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	netns, iface, name, payload, output string
	pool, token, bridge                 string
	mechanisms, labels, cidrs           []string
	lifetime                            time.Duration
}

func newServe(a *app) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve SERVICE [flags] [-- COMMAND…]",
		Short: "Offer a network service from a network namespace, as an endpoint does",
		Long: `Serve registers an endpoint of a network service with the agent and accepts connections
into a network namespace. The network service is registered too if the agent does not know it.
SIGINT or SIGTERM ends it.

Of each --cidr every connection gets two addresses, one for the client and one for this end,
and each end a route to the other; a connection that is closed or expires gives them back.

With --bridge the endpoint is a bridge: the interfaces of all connections are ports of a bridge of
the kernel's in that namespace, so that the clients share one segment, and each gets one address of
every --cidr, with its whole length.

A command after -- is run in the network namespace once the first connection is there, with
the PATCHBAY_* variables of connect; serving ends with it, with its exit status.`,
		Example: `  patchbay serve firewall --netns red --cidr 10.60.0.0/24 --cidr fd60::/64
  patchbay serve lan --netns switch --bridge --cidr 10.60.0.0/24
  patchbay serve perf --netns red --cidr 10.60.0.0/24 -- iperf3 -s`,
		Args: oneAndCommand("network service"),
		RunE: func(cmd *cobra.Command, args []string) error {
			own, command := splitCommand(cmd, args)
			return a.serve(cmd.Context(), own[0], command, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.netns, "netns", "", "network namespace to accept connections into: a name (ip netns) or a path (default own)")
	fl.StringVar(&f.iface, "interface", "nsm%d", "name of interfaces there; %d is the lowest number that no other connection of this endpoint has")
	fl.StringSliceVar(&f.cidrs, "cidr", nil, "prefix to take addresses from, IPv4 or IPv6; may be repeated")
	fl.StringVar(&f.bridge, "bridge", "", "put the interfaces of all connections into a bridge of this name there")
	fl.Lookup("bridge").NoOptDefVal = "nsmbr0"
	fl.StringSliceVar(&f.mechanisms, "mechanism", []string{"KERNEL"}, "mechanism types that are accepted")
	fl.StringVar(&f.payload, "payload", "ETHERNET", "ETHERNET or IP, of a network service that is not registered yet")
	fl.StringArrayVar(&f.labels, "label", nil, "label key=value that clients' labels may choose; may be repeated")
	addDevice(cmd, &f.pool, &f.token)
	fl.StringVar(&f.name, "name", "", "name of the endpoint (default made up)")
	fl.DurationVar(&f.lifetime, "lifetime", time.Minute, "how long the registration outlives this program if it is killed")
	addOutput(cmd, &f.output, asText, asJSON)
	return cmd
}

// options reads the flags.
func (f *serveFlags) options(service string) (endpoint.Options, error) {
	o := endpoint.Options{Name: f.name, Service: service, Interface: f.iface, Pool: f.pool, Token: cmp.Or(f.token, tokenOf(f.pool, os.Environ())), Shared: f.bridge != ""}
	var err error
	if f.lifetime < 2*time.Second {
		return o, usage("lifetime %s: use at least 2s", f.lifetime)
	}
	if o.Name == "" {
		o.Name = service + "-" + uuid.NewString()[:8]
	}
	for _, s := range f.cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return o, usage("cidr %q: use a prefix such as 10.60.0.0/24 or fd60::/64", s)
		}
		o.Prefixes = append(o.Prefixes, p)
	}
	if o.Mechanisms, err = parseTypes(f.mechanisms); err != nil {
		return o, err
	}
	o.Netns, err = openNetns(f.netns)
	return o, err
}

func (a *app) serve(ctx context.Context, service string, command []string, f serveFlags) (err error) {
	payload, err := parsePayload(f.payload)
	if err != nil {
		return err
	}
	labels, err := parseLabels(f.labels)
	if err != nil {
		return err
	}
	o, err := f.options(service)
	if err != nil {
		return err
	}
	defer o.Netns.Close()
	ports := newPorts()
	say := a.endpointEvents(f.output, command != nil)
	accepted := make(chan *networkservice.Connection, 1)
	o.Changed = func(e endpoint.Event) {
		ports.event(e)
		e.Connection = asClient(e.Connection)
		say.event(e)
		if e.Up {
			select {
			case accepted <- e.Connection:
			default: // one is enough
			}
		}
	}
	url, stopServer, err := listen(o, say.problem)
	if err != nil {
		return err
	}
	defer stopServer()

	cc, err := a.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, stop := untilSignal(ctx)
	defer stop()
	if f.bridge != "" {
		leave, err := ports.bridge(ctx, o.Netns, f.bridge, func(err error) { say.linef("%v", err) })
		if err != nil {
			return fmt.Errorf("serve %s: %w", service, err)
		}
		defer leave()
	}
	r := &endpoint.Registration{
		Agent: cc, Name: o.Name, Service: service, Payload: payload, Labels: labels, URL: url,
		Lifetime: f.lifetime, Timeout: callTimeout, Problem: say.problem,
	}
	lasts, err := r.Register(ctx)
	if err != nil {
		return a.explained(err, "serve %s", service)
	}
	say.linef("serving %s as endpoint %s", service, o.Name)
	defer func() {
		if e := r.Unregister(context.WithoutCancel(ctx)); e != nil && err == nil {
			err = a.explained(e, "serve %s", service)
		}
	}()
	if command == nil {
		r.Keep(ctx, lasts)
		return nil
	}
	return alongside(context.WithoutCancel(ctx), func(ctx context.Context) { r.Keep(ctx, lasts) }, func() error {
		return a.runForFirst(ctx, cc, command, f.netns, accepted)
	})
}

// listen serves the endpoint on a socket in a folder that only our user can enter.
// What ends it too early is told to problem.
func listen(o endpoint.Options, problem func(error)) (url string, stop func(), err error) {
	s, err := endpoint.New(o)
	if err != nil {
		return "", nil, &usageError{err}
	}
	dir, err := os.MkdirTemp("", "patchbay-serve-")
	if err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, "endpoint.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	g := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	s.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.Serve(l); err != nil {
			problem(err)
		}
	}()
	return "unix://" + path, func() {
		s.Stop()
		g.Stop()
		<-done
		os.RemoveAll(dir)
	}, nil
}

// asClient gives a connection the id that its client knows it by, as the agent does.
func asClient(conn *networkservice.Connection) *networkservice.Connection {
	conn = conn.Clone()
	conn.Id, conn.Path.Index = conn.Path.PathSegments[0].Id, 0
	return conn
}

// runForFirst runs the command for the first connection that comes up.
func (a *app) runForFirst(ctx context.Context, agent *grpc.ClientConn, command []string, netns string, accepted <-chan *networkservice.Connection) error {
	for {
		select {
		case conn := <-accepted:
			path := conn.GetPath().GetPathSegments()
			if comesUp(ctx, agent, path[len(path)-1].GetId()) {
				return child{args: command, netns: pathOf(netns), env: environment(otherSide(conn), netns)}.run(ctx, a)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// otherSide is a connection as the endpoint's command sees it: own addresses first.
func otherSide(conn *networkservice.Connection) *networkservice.Connection {
	conn = conn.Clone()
	if ip := conn.GetContext().GetIpContext(); ip != nil {
		ip.SrcIpAddrs, ip.DstIpAddrs = ip.DstIpAddrs, ip.SrcIpAddrs
	}
	return conn
}

// endpointSays prints what happens to an endpoint.
type endpointSays struct {
	a       *app
	form    string
	aside   bool // the output is the command's
	mu      sync.Mutex
	trouble bool
}

func (a *app) endpointEvents(form string, aside bool) *endpointSays {
	return &endpointSays{a: a, form: form, aside: aside}
}

func (s *endpointSays) linef(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.form == asJSON {
		return
	}
	w := s.a.out
	if s.aside {
		w = s.a.err
	}
	fmt.Fprintf(w, format+"\n", args...)
}

func (s *endpointSays) event(e endpoint.Event) {
	switch {
	case s.form == asJSON:
		s.mu.Lock()
		defer s.mu.Unlock()
		w := s.a.out
		if s.aside {
			w = s.a.err
		}
		if err := printObject(w, asJSON, e.Connection); err != nil {
			fmt.Fprintln(s.a.err, err)
		}
	case e.Up:
		s.linef("accepted %s", summary(e.Connection))
	default:
		s.linef("connection %s is %s", e.Connection.GetId(), e.Reason)
	}
}

// problem tells when the registration cannot be renewed, and when it can again.
func (s *endpointSays) problem(err error) {
	s.mu.Lock()
	was := s.trouble
	s.trouble = err != nil
	s.mu.Unlock()
	switch {
	case err != nil:
		s.linef("not registered: %s; trying again", message(err))
	case was:
		s.linef("registered again")
	}
}
