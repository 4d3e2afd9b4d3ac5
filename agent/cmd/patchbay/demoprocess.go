package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program that the demo runs beside itself.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

// launch starts this program with other arguments; it is stopped at the clean-up.
func (d *demonstration) launch(out io.Writer, args ...string) (*process, error) {
	cmd := exec.Command(d.program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, out, d.logFile
	// An interrupt from the terminal is for the demo, which stops things in order; a demo
	// that is killed takes them along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	fmt.Fprintf(d.out, "   $ patchbay %s\n", strings.Join(args, " "))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("patchbay %s: %w", args[0], err)
	}
	p := &process{name: "patchbay " + args[0], cmd: cmd, ended: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	d.undo = append(d.undo, p.end)
	return p, nil
}

// start launches a command and waits until it prints a line that begins with sign; that
// line and those after it are shown.
func (d *demonstration) start(ctx context.Context, sign string, args ...string) (*process, error) {
	r, w := io.Pipe()
	p, err := d.launch(w, args...)
	if err != nil {
		return nil, err
	}
	go func() { <-p.ended; w.Close() }()
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
	return p, p.await(ctx, ready)
}

// await waits for ready, and fails when the process ends before that.
func (p *process) await(ctx context.Context, ready <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	select {
	case <-ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("%s ended: %w", p.name, p.ending())
	case <-ctx.Done():
		return fmt.Errorf("%s: not ready in %s", p.name, stepTimeout)
	}
}

// hasEnded reports whether the process is no more.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// ending is how a process ended that should not have.
func (p *process) ending() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("too early")
}

// alive gives a context that ends when the process does.
func (p *process) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// end ends a process as a service manager does, and waits for it.
func (p *process) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stepTimeout):
		err := p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("%s did not stop in %s and was killed", p.name, stepTimeout), err)
	}
}

// stop ends a process that must end well.
func (p *process) stop() error {
	if err := p.end(); err != nil {
		return err
	}
	if p.err != nil {
		return fmt.Errorf("%s ended badly: %w", p.name, p.err)
	}
	return nil
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
	fmt.Fprintf(d.out, "   $ %s %s\n", name, strings.Join(args, " "))
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if line != "\n" {
			fmt.Fprintf(d.out, "   %s", line)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
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
