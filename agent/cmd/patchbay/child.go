package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// splitCommand parts the arguments before -- from the command after it.
func splitCommand(cmd *cobra.Command, args []string) (own, command []string) {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return args[:at], args[at:]
	}
	return args, nil
}

// oneAndCommand takes one argument, and a command after --.
func oneAndCommand(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		own, command := splitCommand(cmd, args)
		switch {
		case len(own) != 1:
			return fmt.Errorf("give one %s, and a command only after --", what)
		case cmd.ArgsLenAtDash() >= 0 && len(command) == 0:
			return errors.New("no command follows --")
		}
		return nil
	}
}

// child is a command that runs while a connection lives, in its network namespace.
type child struct {
	args  []string
	netns string   // path; empty: our own
	env   []string // besides our environment
}

// run runs the command to its end with our terminal, unless ctx has ended before that.
// SIGTERM and SIGINT are passed on to it; ending then is its affair. The error is an
// exitStatus, unless the command could not be started.
func (c child) run(ctx context.Context, a *app) error {
	path, err := exec.LookPath(c.args[0])
	if err != nil {
		return fmt.Errorf("command %s: %w", c.args[0], err)
	}
	args := append([]string{path}, c.args[1:]...)
	if c.netns != "" {
		// nsenter becomes the command, so that signals reach it.
		args = append([]string{"nsenter", "--net=" + c.netns, "--"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if ctx.Err() != nil {
		return fmt.Errorf("command %s: interrupted before it began", c.args[0])
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("command %s: %w", c.args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return exitOf(err, c.args[0])
		case s := <-signals:
			if s == os.Interrupt && a.onTerminal() {
				continue // the terminal sends it to the command as well
			}
			if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("command %s: pass on a signal: %w", c.args[0], err)
			}
		}
	}
}

// onTerminal reports whether our input is a terminal.
func (a *app) onTerminal() bool {
	_, err := unix.IoctlGetTermios(int(a.in.Fd()), unix.TCGETS)
	return err == nil
}

// exitOf is how a command ended, as a shell says it: 128 + n for signal n.
func exitOf(err error, name string) error {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitStatus(128 + int(ws.Signal()))
	}
	return exitStatus(exit.ExitCode())
}
