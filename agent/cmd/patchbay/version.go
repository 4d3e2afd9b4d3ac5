package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/plugins/admin/adminpb"
)

// version is set by the linker: -ldflags "-X main.version=…".
var version string

// ownVersion is this program's: as linked, or as the module was fetched.
func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func newVersion(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the program's version, and the agent's and VPP's when an agent answers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printVersion(cmd.Context(), output)
		},
	}
	addOutput(cmd, &output, asText, asJSON, asYAML)
	return cmd
}

// versions is what `version -o json` prints.
type versions struct {
	Version   string `json:"version"`
	Go        string `json:"go"`
	Agent     string `json:"agent,omitempty"`
	Node      string `json:"node,omitempty"`
	Dataplane string `json:"dataplane,omitempty"`
	VPP       string `json:"vpp,omitempty"`
}

func (a *app) printVersion(ctx context.Context, output string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	v := versions{Version: ownVersion(), Go: runtime.Version()}
	err := a.admin(func(c adminpb.AdminClient) error {
		out, err := c.Version(ctx, &adminpb.VersionRequest{})
		v.Agent, v.Node, v.Dataplane, v.VPP = out.GetVersion(), out.GetNode(), out.GetDataplane(), out.GetVpp()
		return err
	})
	if err != nil && status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		return a.explained(err, "version")
	}
	if output != asText {
		return printValue(a.out, output, v)
	}
	fmt.Fprintf(a.out, "patchbay %s (%s)\n", v.Version, v.Go)
	if err != nil {
		fmt.Fprintf(a.out, "agent    none answers at %s\n", a.agent)
		return nil
	}
	fmt.Fprintf(a.out, "agent    %s, node %s, dataplane %s\n", v.Agent, v.Node, v.Dataplane)
	if v.VPP != "" {
		fmt.Fprintf(a.out, "vpp      %s\n", v.VPP)
	}
	return nil
}
