package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// guard stands between the embedded etcd and its two ways out: its log, which it writes
// with zap, and giving up, which it does through that log (Fatal and Panic). What etcd is about
// to do is told there, too.
//
// While etcd starts, giving up is an error of the start. Later there is nothing to save:
// the write that failed cannot be repeated, and etcd's goroutines wait for each other, so
// the process ends and its service manager starts it again. What is programmed stays.
type guard struct {
	log     *slog.Logger
	running atomic.Bool // the start is over: giving up ends the process
	quiet   atomic.Bool // it is being stopped: what it complains of is of no interest
	failed  chan error
	exit    func(int)
	// snapshot is called before etcd writes one of its log.
	snapshot func()
}

func newGuard(log *slog.Logger, snapshot func()) *guard {
	return &guard{log: log, failed: make(chan error, 1), exit: os.Exit, snapshot: snapshot}
}

func (g *guard) logger() *zap.Logger {
	return zap.New(zapCore{g, nil}, zap.WithFatalHook(g), zap.WithPanicHook(g))
}

// start calls embed.StartEtcd, which may give up in the middle of it.
func (g *guard) start(ctx context.Context, conf *embed.Config) (*embed.Etcd, error) {
	started := make(chan *embed.Etcd, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				g.fail(fmt.Errorf("%v", p))
			}
		}()
		if etcd, err := embed.StartEtcd(conf); err != nil {
			g.fail(err)
		} else {
			started <- etcd
		}
	}()
	select {
	case etcd := <-started:
		return etcd, nil
	case err := <-g.failed:
		return nil, err
	case <-ctx.Done():
		go func() {
			select {
			case etcd := <-started:
				etcd.Close()
			case <-g.failed:
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// fail reports the end of a start.
func (g *guard) fail(err error) {
	select {
	case g.failed <- err:
	default: // what came first is the cause
	}
}

// OnWrite is zap's hook after a line of level Fatal or Panic: it must not return.
func (g *guard) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	if g.running.Load() {
		g.log.Error("the embedded etcd has given up; the agent ends, what is programmed stays", "err", asError(e.Message, fields))
		g.exit(1)
	}
	g.fail(asError(e.Message, fields))
	runtime.Goexit()
}

// asError is a line of etcd's log as an error.
func asError(message string, fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Key == "error" {
			return fmt.Errorf("%s: %w", message, err)
		}
	}
	return errors.New(message)
}
