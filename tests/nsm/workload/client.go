package workload

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/memif"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/client"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/excludedprefixes"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/heal"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/null"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/upstreamrefresh"
	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"
	"google.golang.org/grpc"
)

// clientRole is NSM's client as cmd-nsc puts it together.
type clientRole struct {
	ctx     context.Context // of the process
	nsm     networkservice.NetworkServiceClient
	monitor networkservice.MonitorConnectionClient
	open    map[string]*networkservice.Connection
	out     *output
}

func newClient(ctx context.Context, config Config, out *output) (*clientRole, error) {
	agent, err := url.Parse(config.Agent)
	if err != nil {
		return nil, err
	}
	options := dialOptions(config.Lifetime)
	cc, err := grpc.NewClient(grpcutils.URLToTarget(agent), options...)
	if err != nil {
		return nil, err
	}
	var healing []heal.Option
	if config.Live {
		healing = append(healing, heal.WithLivenessCheck(alive), heal.WithLivenessCheckTimeout(time.Second))
	}
	nsm := client.NewClient(ctx,
		client.WithClientURL(agent),
		client.WithName(config.Name),
		client.WithHealClient(heal.NewClient(ctx, healing...)),
		client.WithAdditionalFunctionality(
			upstreamrefresh.NewClient(ctx),
			mechanisms.NewClient(map[string]networkservice.NetworkServiceClient{
				kernelmech.MECHANISM: kernel.NewClient(),
				memif.MECHANISM:      null.NewClient(), // its preference comes with the command
			}),
			sendfd.NewClient(),
			excludedprefixes.NewClient(),
			&clientWitness{out},
		),
		client.WithDialTimeout(config.Timeout),
		client.WithDialOptions(options...),
	)
	return &clientRole{ctx: ctx, nsm: nsm, monitor: networkservice.NewMonitorConnectionClient(cc),
		open: map[string]*networkservice.Connection{}, out: out}, nil
}

func (c *clientRole) do(ctx context.Context, cmd Command) (*networkservice.Connection, error) {
	switch cmd.Do {
	case Request:
		return c.request(ctx, cmd, &networkservice.Connection{Id: cmd.ID, NetworkService: cmd.Service})
	case Resume:
		conn, err := c.find(ctx, cmd.ID)
		if err != nil {
			return nil, err
		}
		return c.request(ctx, cmd, conn)
	case Close:
		_, err := c.nsm.Close(ctx, c.open[cmd.ID])
		delete(c.open, cmd.ID)
		return nil, err
	case Monitor:
		stream, err := c.monitor.MonitorConnections(c.ctx, selector(cmd.ID))
		if err == nil {
			go c.hear(stream)
		}
		return nil, err
	}
	return nil, fmt.Errorf("a client cannot %q", cmd.Do)
}

func (c *clientRole) request(ctx context.Context, cmd Command, conn *networkservice.Connection) (*networkservice.Connection, error) {
	preference := &networkservice.Mechanism{Cls: cls.LOCAL, Type: kernelmech.MECHANISM,
		Parameters: map[string]string{kernelmech.InterfaceNameKey: cmd.Interface}}
	if cmd.Memif {
		preference = memif.NewAbstract("/proc/thread-self/ns/net") // as sdk-vpp's client does
	}
	out, err := c.nsm.Request(ctx, &networkservice.NetworkServiceRequest{
		Connection: conn, MechanismPreferences: []*networkservice.Mechanism{preference},
	})
	if err == nil {
		c.open[cmd.ID] = out.Clone()
	}
	return out, err
}

// find asks the agent what it still has of a connection, as a client does that starts
// again (cmd-nsc's startMonitoring and constructRequest).
func (c *clientRole) find(ctx context.Context, id string) (*networkservice.Connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.monitor.MonitorConnections(ctx, selector(id))
	if err != nil {
		return nil, err
	}
	event, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	for _, conn := range event.GetConnections() {
		path := conn.GetPath()
		if path.Index == 1 && path.PathSegments[0].Id == id && conn.Mechanism.Type == kernelmech.MECHANISM {
			out := conn.Clone()
			out.Path.Index, out.Id = 0, id
			return out, nil
		}
	}
	return nil, fmt.Errorf("the agent knows no connection %q: %v", id, event)
}

func (c *clientRole) hear(stream networkservice.MonitorConnection_MonitorConnectionsClient) {
	for {
		in, err := stream.Recv()
		if err != nil {
			c.out.tell(Event{What: Heard, Error: err.Error()})
			return
		}
		e := Event{What: Heard, Type: in.Type.String()}
		for _, conn := range in.Connections {
			e.Connections = append(e.Connections, Conn{conn})
		}
		c.out.tell(e)
	}
}

func selector(id string) *networkservice.MonitorScopeSelector {
	return &networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Id: id}}}
}
