package lab

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// In runs the agent in a namespace, which is its node.
func In(ns *Namespace) Option {
	return func(a *Agent, _ map[string]string) { a.in = ns }
}

// command is the program with arguments, where the agent runs.
func (a *Agent) command(args ...string) *exec.Cmd {
	if a.in == nil {
		return exec.Command(a.binary, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", a.in.Name, a.binary}, args...)...)
}

// Get asks the agent's HTTP server, wherever the agent runs.
func (a *Agent) Get(path string) (*http.Response, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	if a.in != nil {
		client.Transport = &http.Transport{DialContext: a.in.Dial, DisableKeepAlives: true}
	}
	return client.Get("http://" + a.HTTP + path)
}

// Dial connects from within the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.within(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens in the namespace.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = n.within(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket takes packets in the namespace.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.within(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// within does something on a thread in the namespace. The thread is led back, and does not
// end: what it has started may be bound to it (Pdeathsig).
func (n *Namespace) within(do func() error) error {
	own, err1 := os.Open("/proc/self/ns/net")
	there, err2 := os.Open(n.Path)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer own.Close()
	defer there.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
	if err == nil {
		err = errors.Join(do(), unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
	}
	return err
}
