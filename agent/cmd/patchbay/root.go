package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"go.patchbay.dev/agent/config"
)

// defaultAgent is where the agent listens unless it is configured otherwise.
const defaultAgent = "unix:///run/patchbay/agent.sock"

// app is what all commands share.
type app struct {
	in       *os.File
	out, err io.Writer
	agent    string // --agent
	began    bool   // the command line is understood, so what fails now is not its use
}

// execute runs one command line and gives its exit status: 0 done, 1 failed, 2 wrong use.
func execute(args []string, in *os.File, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(context.Background())
	var exit exitStatus
	var use *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit) // of the command that ran inside; it has said why itself
	case !a.began || errors.As(err, &use):
		fmt.Fprintf(errOut, "patchbay: %s; see: %s --help\n", oneLine(err), cmd.CommandPath())
		return 2
	}
	fmt.Fprintf(errOut, "patchbay: %s\n", oneLine(err))
	return 1
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "patchbay",
		Short: "Cross-connects workloads on demand, as Network Service Mesh asks for them",
		Long: `Patchbay cross-connects workloads on demand. One agent runs on each node (patchbay run);
workloads ask it for a network service (patchbay connect), endpoints offer one to it
(patchbay serve), and both get interfaces that are joined.

For a first look, as root: patchbay demo

Exit status: 0 done, 1 failed, 2 wrong use.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(*cobra.Command, []string) {
			a.began = true
		},
	}
	root.PersistentFlags().StringVar(&a.agent, "agent", cmp.Or(os.Getenv(config.EnvAgent), defaultAgent),
		"the agent's socket, also by "+config.EnvAgent)
	root.AddCommand(
		newRun(a), newConnect(a), newServe(a),
		newApply(a), newDelete(a), newGet(a), newDescribe(a), newExplain(a),
		newDemo(a), newLab(a), newVersion(a), newReference(a),
	)
	return root
}

// untilSignal gives a context that ends at SIGINT or SIGTERM; a second signal ends the
// program at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
