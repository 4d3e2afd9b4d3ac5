package manager

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

var errNoPath = errors.New("the connection has no path segment of its caller")

func errUnknownService(name string, known []string) error {
	text := "none is registered"
	if len(known) > 0 {
		if len(known) > 10 {
			known = append(known[:10:10], "…")
		}
		text = "registered are " + strings.Join(known, ", ")
	}
	return status.Errorf(codes.NotFound, "network service %q is not known; %s", name, text)
}

func errNoEndpoint(service, why string) error {
	return status.Errorf(codes.Unavailable, "network service %q has no endpoint for this client: %s", service, why)
}

// coded gives an error the gRPC code that it calls for; one that has a code keeps it.
func coded(err error, otherwise codes.Code) error {
	var s interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &s):
		return status.Error(s.GRPCStatus().Code(), clean(err))
	case errors.Is(err, store.ErrUnavailable):
		otherwise = codes.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		otherwise = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		otherwise = codes.Canceled
	}
	return status.Error(otherwise, clean(err))
}

// unheard reports whether an error leaves open what the other side has done.
func unheard(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return true
	}
	return false
}

var framing = regexp.MustCompile(`(rpc error: code = \w+|connection error:) desc = `)

// clean is an error's text on one line and without gRPC's framing, which would repeat at
// each hop.
func clean(err error) string {
	return models.OneLine(framing.ReplaceAllString(err.Error(), ""))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
