package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	// ErrUnavailable means that etcd does not answer, or takes no writes, now. What wraps it
	// says why in words. A write that fails with it may have been done all the same.
	ErrUnavailable = errors.New("etcd is unavailable")

	// ErrNotFound means that there is no such key.
	ErrNotFound = errors.New("not found")

	// ErrExists means that Create found the key there already.
	ErrExists = errors.New("exists already")

	// ErrConflict means that Replace found the key changed or gone.
	ErrConflict = errors.New("changed by somebody else")

	// ErrTaken means that Claim found the key held by another.
	ErrTaken = errors.New("held by another")
)

// unavailable is ErrUnavailable with its reason.
func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, args...))
}

// errClosed is what everything gives after Close.
func errClosed() error { return unavailable("the store is closed") }

// explain turns what etcd's client said of a request into this package's errors. The
// caller's own deadline stays the caller's: only etcd's failures are ErrUnavailable.
func explain(ctx context.Context, ses *session, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrConflict), errors.Is(err, ErrTaken):
		return err
	case ses.ctx.Err() != nil:
		return context.Cause(ses.ctx)
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			ses.look()
		}
		return context.Cause(ctx)
	case errors.Is(err, rpctypes.ErrNoSpace):
		ses.look()
		return errQuota()
	case away(err):
		ses.look()
		return unavailable("%s", reason(err))
	}
	return err
}

// errQuota is etcd's NOSPACE alarm.
func errQuota() error {
	return unavailable("no space: the database has reached its quota (alarm NOSPACE)")
}

// away tells whether a failure is etcd's being away rather than its answer.
func away(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// code is the gRPC code of an error of etcd's client, which wraps some of them in its own type.
func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

// reason is an error of etcd's client in words, without gRPC's decoration.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	const framing = "desc = " // of an error that gRPC had from an error
	text := err.Error()
	if i := strings.LastIndex(text, framing); i >= 0 {
		text = strings.TrimPrefix(strings.Trim(text[i+len(framing):], `"`), "transport: ")
	}
	if status.Code(err) == codes.DeadlineExceeded {
		text = "no answer in time: " + text
	}
	return text
}
