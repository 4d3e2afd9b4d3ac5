package lab

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// In runs the agent in a namespace, which is its node.
func In(ns *Namespace) Option {
	return func(a *Agent, _ map[string]string) { a.in = ns }
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
	done := make(chan struct{})
	go func() { // on a thread that then ends, since it is not led back
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread cannot end
			conn, err = n.Dial(ctx, network, address)
			runtime.UnlockOSThread()
			return
		}
		var ns *os.File
		if ns, err = os.Open(n.Path); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
		}
	}()
	<-done
	return conn, err
}
