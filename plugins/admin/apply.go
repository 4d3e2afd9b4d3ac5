package admin

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/store"
)

// object is a desired object that a user may write: its name, key and form.
type object struct {
	message proto.Message
	name    string
	key     string
}

// parse reads and checks an object as the watch of etcd would.
func (s *Server) parse(ctx context.Context, kind string, data []byte) (*object, error) {
	switch kind {
	case "crossconnect":
		x := &models.CrossConnect{}
		if err := models.Unmarshal(data, x); err != nil {
			return nil, err
		}
		if x.Request != nil {
			return nil, &models.FieldError{Field: "request", Reason: "is the agent's own; leave it out, or use patchbay connect"}
		}
		return &object{x, x.Id, s.Keys.CrossConnect(x.Id)}, s.CrossConnects.Check(x)
	case "connection":
		c := &models.Connection{}
		if err := models.Unmarshal(data, c); err != nil {
			return nil, err
		}
		return &object{c, c.Id, s.Keys.Connection(c.Id)}, s.Registry.CheckConnection(c)
	case "service":
		v := &models.Service{}
		if err := models.Unmarshal(data, v); err != nil {
			return nil, err
		}
		return &object{v, v.Name, s.Keys.Service(v.Name)}, models.ValidateService(v)
	case "bridge":
		b := &models.Bridge{}
		if err := models.Unmarshal(data, b); err != nil {
			return nil, err
		}
		return &object{b, b.Name, s.Keys.Bridge(b.Name)}, s.Bridges.Check(ctx, b)
	}
	return nil, &models.FieldError{Field: "kind", Reason: fmt.Sprintf("%q cannot be applied; use crossconnect, connection, service or bridge", kind)}
}

// Apply writes a desired object that is valid; one that is there already in the same
// form is left alone.
func (s *Server) Apply(ctx context.Context, in *adminpb.ApplyRequest) (*adminpb.ApplyResponse, error) {
	if err := s.rootOnly(ctx, "apply objects"); err != nil {
		return nil, err
	}
	o, err := s.parse(ctx, in.Kind, in.Object)
	if err != nil {
		return nil, invalid(err)
	}
	out := &adminpb.ApplyResponse{Name: o.name, Change: "configured"}
	switch kv, err := s.Store.Get(ctx, o.key); {
	case errors.Is(err, store.ErrNotFound):
		out.Change = "created"
	case err != nil:
		return nil, unavailable(err)
	default:
		there := o.message.ProtoReflect().New().Interface()
		if models.Unmarshal(kv.Value, there) == nil && proto.Equal(there, o.message) {
			out.Change, out.Revision = "unchanged", kv.Revision
			return out, nil
		}
		if x, ok := there.(*models.CrossConnect); ok && x.Request != nil {
			return nil, status.Errorf(codes.FailedPrecondition, "crossconnect %q belongs to a client's connection; choose another id", o.name)
		}
	}
	data, err := models.Marshal(o.message)
	if err != nil {
		return nil, invalid(err)
	}
	if out.Revision, err = s.Store.Put(ctx, o.key, data); err != nil {
		return nil, unavailable(err)
	}
	if in.Kind == "bridge" { // so that the next request finds it
		err = s.Bridges.Await(ctx, out.Revision)
	}
	return out, err
}

// Delete removes a desired object. Deleting a connection closes it: the durable request, if
// there is one, else the client's, whose cross-connect goes.
func (s *Server) Delete(ctx context.Context, in *adminpb.DeleteRequest) (*adminpb.DeleteResponse, error) {
	if err := s.rootOnly(ctx, "delete objects"); err != nil {
		return nil, err
	}
	var key string
	switch in.Kind {
	case "crossconnect":
		key = s.Keys.CrossConnect(in.Name)
	case "connection":
		key = s.Keys.Connection(in.Name)
		if _, err := s.Store.Get(ctx, key); errors.Is(err, store.ErrNotFound) {
			key = s.Keys.CrossConnect(in.Name)
		}
	case "service":
		key = s.Keys.Service(in.Name)
	case "endpoint":
		key = s.Keys.Endpoint(in.Name)
	case "bridge":
		key = s.Keys.Bridge(in.Name)
	default:
		return nil, status.Errorf(codes.InvalidArgument, "kind: %q cannot be deleted; use crossconnect, connection, service, endpoint or bridge", in.Kind)
	}
	if _, err := s.Store.Get(ctx, key); errors.Is(err, store.ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "%s %q is not there", in.Kind, in.Name)
	}
	if in.Kind == "bridge" && !in.Force {
		if err := s.unused(ctx, in.Name); err != nil {
			return nil, err
		}
	}
	revision, err := s.Store.Delete(ctx, key)
	if err == nil && in.Kind == "bridge" {
		err = errors.Join(s.Bridges.Free(ctx, in.Name), s.Bridges.Await(ctx, revision))
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return &adminpb.DeleteResponse{}, nil
}

func invalid(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }

func unavailable(err error) error {
	if errors.Is(err, store.ErrUnavailable) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
