package main

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// exitStatus is that of a command that ran inside; there is nothing more to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// oneLine is an error's text on one line, without gRPC's framing.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
}

// explained turns what a call to the agent returned into words: what could not be done,
// and for an agent that is not there, what to do about it.
func (a *app) explained(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return fmt.Errorf("%s: %w", what, err)
	}
	st := s.GRPCStatus()
	// What the agent says of an endpoint that does not answer has the endpoint's name before it.
	if st.Code() == codes.Unavailable && strings.HasPrefix(st.Message(), "connection error:") {
		why := st.Message()[strings.LastIndex(st.Message(), ": ")+2:]
		return fmt.Errorf("%s: no agent answers at %s (%s); start one with patchbay run, or name its socket with --agent",
			what, a.agent, strings.Trim(why, `"`))
	}
	if st.Code() == codes.Canceled {
		return fmt.Errorf("%s: interrupted", what)
	}
	if st.Code() == codes.Unimplemented {
		return fmt.Errorf("%s: the agent at %s is of a version that cannot do this; use a program of its version", what, a.agent)
	}
	return fmt.Errorf("%s: %s", what, st.Message())
}

// message is what a call to the agent returned, without gRPC's framing.
func message(err error) string {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return err.Error()
	}
	doing, _, _ := strings.Cut(err.Error(), "rpc error: ")
	return doing + s.GRPCStatus().Message()
}
