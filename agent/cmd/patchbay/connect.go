package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/memif"
	"github.com/spf13/cobra"

	"go.patchbay.dev/agent/cmd/patchbay/workload"
	"go.patchbay.dev/agent/config"
	"go.patchbay.dev/models"
)

// connectFlags are the flags of connect.
type connectFlags struct {
	netns, iface, id, payload, output string
	pool, token                       string
	mechanisms, labels                []string
	timeout, lifetime                 time.Duration
}

func newConnect(a *app) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use:   "connect SERVICE [flags] [-- COMMAND…]",
		Short: "Connect a network namespace to a network service, as a workload does",
		Long: `Connect requests a connection to a network service, prints it and keeps it: it is refreshed
in time, and asked for again when the agent comes back or the endpoint goes away. SIGINT or
SIGTERM closes it.

A command after -- is run once the connection is up, in the network namespace; the connection
lives as long as the command, whose exit status becomes that of connect. It finds
PATCHBAY_ID, PATCHBAY_SERVICE, PATCHBAY_ENDPOINT, PATCHBAY_MECHANISM, PATCHBAY_NETNS and,
where the mechanism has them, PATCHBAY_INTERFACE, PATCHBAY_ADDRESSES, PATCHBAY_PEER_ADDRESSES,
PATCHBAY_SOCKET, PATCHBAY_SOCKET_ID and PATCHBAY_PCI_ADDRESS in its environment.`,
		Example: `  patchbay connect firewall --netns blue --interface nsm0
  patchbay connect firewall --netns blue -- ping -c 3 10.60.0.2`,
		Args: oneAndCommand("network service"),
		RunE: func(cmd *cobra.Command, args []string) error {
			own, command := splitCommand(cmd, args)
			return a.connect(cmd.Context(), own[0], command, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.netns, "netns", "", "network namespace to connect: a name (ip netns) or a path (default own)")
	fl.StringVar(&f.iface, "interface", "", "name of the interface there, at most 15 characters (default the agent's choice)")
	fl.StringVar(&f.id, "id", "", "id of the connection; the same id later is the same connection (default made up)")
	fl.StringSliceVar(&f.mechanisms, "mechanism", []string{"KERNEL"}, "mechanism types, in order of preference")
	fl.StringVar(&f.payload, "payload", "", "ETHERNET or IP (default that of the network service)")
	addDevice(cmd, &f.pool, &f.token)
	fl.StringArrayVar(&f.labels, "label", nil, "label key=value that chooses among endpoints; may be repeated")
	fl.DurationVar(&f.timeout, "timeout", 15*time.Second, "how long one request may take")
	fl.DurationVar(&f.lifetime, "lifetime", 10*time.Minute, "how long the connection outlives this program if it is killed")
	addOutput(cmd, &f.output, asText, asJSON)
	return cmd
}

// options reads the flags.
func (f *connectFlags) options(service string) (workload.Options, error) {
	o := workload.Options{Service: service, ID: f.id, Interface: f.iface, Pool: f.pool, Token: cmp.Or(f.token, tokenOf(f.pool, os.Environ())), Lifetime: f.lifetime, Timeout: f.timeout}
	var err error
	if f.timeout <= 0 || f.lifetime < time.Second {
		return o, usage("timeout %s and lifetime %s: use more than nothing, and at least 1s for the lifetime", f.timeout, f.lifetime)
	}
	if o.Mechanisms, err = parseTypes(f.mechanisms); err != nil {
		return o, err
	}
	if o.Payload, err = parsePayload(f.payload); err != nil {
		return o, err
	}
	if o.Labels, err = parseLabels(f.labels); err != nil {
		return o, err
	}
	if o.ID == "" {
		o.ID = newID(service)
	}
	if o.Name, err = os.Hostname(); err != nil {
		return o, fmt.Errorf("host name: %w", err)
	}
	o.Netns, err = openNetns(f.netns)
	return o, err
}

// addDevice adds the flags of who wants a virtual function.
func addDevice(cmd *cobra.Command, pool, token *string) {
	cmd.Flags().StringVar(pool, "pool", "", "pool of virtual functions to get one of (KERNEL and VFIO), like example.com/radio")
	cmd.Flags().StringVar(token, "token", "", "the device plugin's token for a virtual function (default the pool's first in the environment)")
}

// newID makes up an id that says what it is for.
func newID(service string) string {
	random := uuid.NewString()
	if id := service + "-" + random[:8]; models.ValidName(id) {
		return id
	}
	return random
}

func (a *app) connect(ctx context.Context, service string, command []string, f connectFlags) (err error) {
	o, err := f.options(service)
	if err != nil {
		return err
	}
	defer o.Netns.Close()
	cc, err := a.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	o.Agent = cc
	out := a.out
	if command != nil {
		out = a.err // the command's output stays its own
	}
	o.Changed = func(e workload.Event) { printEvent(out, f.output, e) }

	ctx, stop := untilSignal(ctx)
	defer stop()
	w := workload.New(o)
	conn, err := w.Connect(ctx)
	if err != nil {
		return a.explained(err, "connect %s", service)
	}
	printEvent(out, f.output, workload.Event{What: workload.Up, Connection: conn})
	defer func() {
		if e := w.Close(context.WithoutCancel(ctx)); e != nil && err == nil {
			err = a.explained(e, "close connection %s", o.ID)
		}
	}()
	if command == nil {
		w.Keep(ctx)
		return nil
	}
	return alongside(context.WithoutCancel(ctx), w.Keep, func() error {
		return child{args: command, netns: pathOf(f.netns), env: environment(conn, f.netns)}.run(ctx, a)
	})
}

// alongside runs keep for as long as f takes.
func alongside(ctx context.Context, keep func(context.Context), f func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); keep(ctx) }()
	err := f()
	cancel()
	<-done
	return err
}

// printEvent prints what became of a connection: a line, or the connection as JSON.
func printEvent(w io.Writer, form string, e workload.Event) {
	if form == asJSON {
		if e.What == workload.Up || e.What == workload.Down {
			if err := printObject(w, asJSON, e.Connection); err != nil {
				fmt.Fprintln(w, err)
			}
		}
		return
	}
	id := e.Connection.GetId()
	switch e.What {
	case workload.Up:
		fmt.Fprintf(w, "connected %s\n", summary(e.Connection))
	case workload.Down:
		fmt.Fprintf(w, "connection %s is down\n", id)
	case workload.Closed:
		fmt.Fprintf(w, "connection %s was closed by the agent; asking again\n", id)
	case workload.Away:
		fmt.Fprintf(w, "the agent is away; connection %s stays as it is\n", id)
	case workload.Trouble:
		fmt.Fprintf(w, "connection %s: %s; trying again\n", id, message(e.Err))
	}
}

// summary is a connection on one line.
func summary(c *networkservice.Connection) string {
	m, ip := c.GetMechanism(), c.GetContext().GetIpContext()
	parts := []string{fmt.Sprintf("%s: %s by endpoint %s, %s", c.GetId(), c.GetNetworkService(), c.GetNetworkServiceEndpointName(), m.GetType())}
	if name := m.GetParameters()[common.InterfaceNameKey]; name != "" {
		parts = append(parts, "interface "+name)
	}
	if socket := m.GetParameters()[memif.SocketFilename]; socket != "" {
		parts = append(parts, "socket "+socket+" id "+orZero(m.GetParameters()[socketID]))
	}
	if src := ip.GetSrcIpAddrs(); len(src) > 0 {
		addresses := strings.Join(src, " ")
		if dst := ip.GetDstIpAddrs(); len(dst) > 0 {
			addresses += " to " + strings.Join(dst, " ")
		}
		parts = append(parts, addresses)
	}
	return strings.Join(append(parts, c.GetPayload()), ", ")
}

// socketID is the parameter of a memif's interface id on its socket.
const socketID = "id"

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

// environment is what a command learns of its connection.
func environment(c *networkservice.Connection, netns string) []string {
	p, ip := c.GetMechanism().GetParameters(), c.GetContext().GetIpContext()
	var env []string
	for _, v := range []struct{ name, value string }{
		{config.EnvID, c.GetId()},
		{config.EnvService, c.GetNetworkService()},
		{config.EnvEndpoint, c.GetNetworkServiceEndpointName()},
		{config.EnvMechanism, c.GetMechanism().GetType()},
		{config.EnvNetns, pathOf(netns)},
		{config.EnvInterface, p[common.InterfaceNameKey]},
		{config.EnvAddresses, strings.Join(ip.GetSrcIpAddrs(), " ")},
		{config.EnvPeerAddresses, strings.Join(ip.GetDstIpAddrs(), " ")},
		{config.EnvSocket, p[memif.SocketFilename]},
		{config.EnvSocketID, p[socketID]},
		{config.EnvPCIAddress, p[common.PCIAddressKey]},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}
