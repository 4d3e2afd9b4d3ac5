package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"go.patchbay.dev/agent/lab"
)

// launch starts this program with other arguments; it is stopped at the clean-up.
func (d *demonstration) launch(out io.Writer, args ...string) (*lab.Process, error) {
	return d.launchAs("", exec.Command(d.program, args...), d.env, out, args)
}

// launchAs starts a command that runs this program, on a node if it has a name.
func (d *demonstration) launchAs(node string, cmd *exec.Cmd, env []string, out io.Writer, args []string) (*lab.Process, error) {
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, d.logFile
	fmt.Fprintf(d.out, "   %s$ patchbay %s\n", node, strings.Join(args, " "))
	p, err := d.launcher.Start("patchbay "+args[0], cmd)
	if err != nil {
		return nil, err
	}
	d.undo = append(d.undo, p.End)
	return p, nil
}

// start launches a command and waits until it prints a line that begins with sign; that
// line and those after it are shown.
func (d *demonstration) start(ctx context.Context, sign string, args ...string) (*lab.Process, error) {
	return d.await(ctx, sign, func(out io.Writer) (*lab.Process, error) { return d.launch(out, args...) })
}

func (d *demonstration) await(ctx context.Context, sign string, launch func(io.Writer) (*lab.Process, error)) (*lab.Process, error) {
	r, w := io.Pipe()
	p, err := launch(w)
	if err != nil {
		return nil, err
	}
	go func() { <-p.Ended(); w.Close() }()
	ready := make(chan struct{})
	go func() {
		said := sync.OnceFunc(func() { close(ready) })
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			fmt.Fprintf(d.out, "   %s\n", lines.Text())
			if strings.HasPrefix(lines.Text(), sign) {
				said()
			}
		}
	}()
	return p, p.Await(ctx, ready)
}

// alive gives a context that ends when the process does.
func alive(ctx context.Context, p *lab.Process) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	go func() {
		select {
		case <-p.Ended():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// command shows a command of the system and runs it to its end.
func (d *demonstration) command(ctx context.Context, name string, args ...string) error {
	return d.show(ctx, name, name, args)
}

// self does so with a command of this program.
func (d *demonstration) self(ctx context.Context, args ...string) error {
	return d.show(ctx, "patchbay", d.program, args)
}

func (d *demonstration) show(ctx context.Context, name, program string, args []string) error {
	cmd := exec.Command(program, args...)
	cmd.Env = d.env
	return d.showAs(ctx, "", append([]string{name}, args...), cmd)
}

// showAs shows a command as it is typed, on a node if it has a name, and runs it.
func (d *demonstration) showAs(ctx context.Context, node string, typed []string, cmd *exec.Cmd) error {
	fmt.Fprintf(d.out, "   %s$ %s\n", node, strings.Join(typed, " "))
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill() // its end is seen below
		}
	})
	defer stop()
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line != "\n" {
			fmt.Fprintf(d.out, "   %s", line)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(typed, " "), err)
	}
	return nil
}

// logTail is how many lines of the log a failure shows.
const logTail = 12

// showLog shows the end of the log, for a demo that failed.
func (d *demonstration) showLog() {
	data, err := os.ReadFile(d.logFile.Name())
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for _, l := range lines[max(0, len(lines)-logTail):] {
		fmt.Fprintln(d.err, "  ", l)
	}
}
