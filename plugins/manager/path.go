package manager

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/google/uuid"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// maxPath bounds the segments of a path; a request that has passed more hops goes in a circle.
const maxPath = 32

// caller is where a connection came from: the index of the caller's path segment. What
// the caller sees of its connection has this index and the id of this segment.
func caller(conn *networkservice.Connection) (index int, err error) {
	p := conn.GetPath()
	if len(p.GetPathSegments()) == 0 {
		// A client that keeps no path still gets one, so that it can refresh and close.
		if conn.Id == "" {
			conn.Id = uuid.NewString()
		}
		conn.Path = &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: "client", Id: conn.Id}}}
		return 0, nil
	}
	switch index = int(p.Index); {
	case len(p.PathSegments) > maxPath:
		return 0, status.Errorf(codes.InvalidArgument, "connection.path has %d segments; at most %d", len(p.PathSegments), maxPath)
	case index >= len(p.PathSegments):
		return 0, status.Errorf(codes.InvalidArgument, "connection.path.index %d is outside its %d segments", index, len(p.PathSegments))
	case slices.Contains(p.PathSegments, nil):
		return 0, status.Error(codes.InvalidArgument, "connection.path has an empty segment")
	case conn.Id == "":
		conn.Id = p.PathSegments[index].Id
	case conn.Id != p.PathSegments[index].Id:
		return 0, status.Errorf(codes.InvalidArgument, "connection.id %q differs from the id %q of its path segment %d", conn.Id, p.PathSegments[index].Id, index)
	}
	if conn.Id == "" {
		return 0, status.Errorf(codes.InvalidArgument, "connection.id is missing")
	}
	return index, nil
}

// enter moves a connection to this agent's own segment, after the caller's. A segment
// that is on record keeps its id and what follows it, so that a client that forgot its
// path, and an endpoint that knows its own segment, find the same connection again.
func enter(conn *networkservice.Connection, index int, name string, known *networkservice.Connection) {
	rest := conn.Path.PathSegments[index+1:]
	if k := known.GetPath().GetPathSegments(); len(k) > index+1 {
		rest = nil
		for _, s := range k[index+1:] { // what is on record is shared, and these will change
			rest = append(rest, s.Clone())
		}
	}
	if len(rest) == 0 || rest[0].GetName() != name {
		rest = []*networkservice.PathSegment{{Name: name, Id: uuid.NewString()}}
	}
	conn.Path.PathSegments = append(slices.Clone(conn.Path.PathSegments[:index+1]), rest...)
	conn.Path.Index = uint32(index + 1)
	conn.Id = rest[0].Id
}

// leave gives a connection the caller's view again.
func leave(conn *networkservice.Connection, index int) {
	conn.Path.Index = uint32(index)
	conn.Id = conn.Path.PathSegments[index].Id
}

// ours is the connection as this agent's own segment sees it, for monitors.
func ours(conn *networkservice.Connection) *networkservice.Connection {
	c := conn.Clone()
	leave(c, ownIndex(c))
	return c
}

// ownSegment is the id of this agent's own segment of a connection.
func ownSegment(conn *networkservice.Connection) string {
	return conn.Path.PathSegments[ownIndex(conn)].Id
}

// ownIndex is where this agent's own segment is, of a connection as its caller sees it: after the caller's, if that is not the last.
func ownIndex(conn *networkservice.Connection) int {
	return min(int(conn.Path.Index)+1, len(conn.Path.PathSegments)-1)
}

// recordID is the id of the record of a caller's connection: the caller's own id where
// it can be one, so that users find it, else a hash of it.
func recordID(id string) string {
	if models.ValidName(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "x-" + hex.EncodeToString(sum[:16])
}
