package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process is given to become ready, and to end.
const patience = 30 * time.Second

// Launcher starts processes that are to die with this one. The kernel kills a process when
// the thread that started it ends (prctl(2), PR_SET_PDEATHSIG), so one thread starts all.
type Launcher struct{ work chan func() }

// NewLauncher makes a Launcher; Close it when what it started has ended.
func NewLauncher() *Launcher {
	l := &Launcher{work: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for f := range l.work {
			f()
		}
	}()
	return l
}

// Close ends the thread, and with it what still runs.
func (l *Launcher) Close() { close(l.work) }

// Process is a program that runs beside this one.
type Process struct {
	Name  string
	Log   string // file that its end is explained by; empty: none
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

// Start starts a command in a process group of its own: an interrupt from the terminal is
// for this program, which stops things in order.
func (l *Launcher) Start(name string, cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	l.work <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, cmd: cmd, ended: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	return p, nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running reports whether it has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Await waits for ready, and fails when the process ends before that.
func (p *Process) Await(ctx context.Context, ready <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-ready:
		return nil
	case <-p.ended:
		return p.Ending()
	case <-ctx.Done():
		return fmt.Errorf("%s: not ready: %w", p.Name, ctx.Err())
	}
}

// Ending is how a process ended that should not have, and the last that it said.
func (p *Process) Ending() error {
	err := p.err
	if err == nil {
		err = errors.New("too early")
	}
	said := ""
	if data, e := os.ReadFile(p.Log); e == nil {
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		said = ": " + lines[len(lines)-1]
	}
	return fmt.Errorf("%s ended: %w%s", p.Name, err, said)
}

// Signal sends it a signal, if it runs.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to %s: %w", s, p.Name, err)
	}
	return nil
}

// Kill ends it as a crash does, and waits for its end.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// End ends it as a service manager does, and waits for its end.
func (p *Process) End() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s did not stop in %s and was killed", p.Name, patience), p.Kill())
	}
}

// Stop ends it; it must end well.
func (p *Process) Stop() error {
	if err := p.End(); err != nil {
		return err
	}
	if p.err != nil {
		return fmt.Errorf("%s ended badly: %w", p.Name, p.err)
	}
	return nil
}

// within gives a command in a network namespace; none: this process's.
func within(netns, program string, args ...string) *exec.Cmd {
	if netns == "" {
		return exec.Command(program, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", netns, program}, args...)...)
}

// poll asks until there is no error, for what tells nobody when it is ready.
func poll(ctx context.Context, p *Process, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return p.Ending()
		case <-ctx.Done():
			return fmt.Errorf("%s: not ready: %w", p.Name, errors.Join(ctx.Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// appended opens a file that processes write their log to.
func appended(path string) (io.WriteCloser, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}
