package manager

import (
	"testing"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

func path(index uint32, segments ...string) *networkservice.Path {
	p := &networkservice.Path{Index: index}
	for i := 0; i+1 < len(segments); i += 2 {
		p.PathSegments = append(p.PathSegments, &networkservice.PathSegment{Name: segments[i], Id: segments[i+1]})
	}
	return p
}

func TestPathFromCallerToAgentAndBack(t *testing.T) {
	known := &networkservice.Connection{Id: "c1", Path: path(0, "client", "c1", "n1", "known-id", "fw", "fw-id")}
	for name, c := range map[string]struct {
		conn  *networkservice.Connection
		known *networkservice.Connection
		ours  string // id of our segment, empty: a new one
		rest  int    // segments after ours
	}{
		"a first request":                  {&networkservice.Connection{Id: "c1", Path: path(0, "client", "c1")}, nil, "", 0},
		"a client that keeps no path":      {&networkservice.Connection{Id: "c1"}, nil, "", 0},
		"a client that keeps no id either": {&networkservice.Connection{}, nil, "", 0},
		"a refresh":                        {&networkservice.Connection{Id: "c1", Path: path(0, "client", "c1", "n1", "mine", "fw", "x")}, nil, "mine", 1},
		"a client that forgot its path":    {&networkservice.Connection{Id: "c1", Path: path(0, "client", "c1")}, known, "known-id", 1},
		"a path of another node":           {&networkservice.Connection{Id: "c1", Path: path(0, "client", "c1", "n2", "other", "fw", "x")}, nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			index, err := caller(c.conn)
			if err != nil {
				t.Fatal(err)
			}
			id := c.conn.Id
			enter(c.conn, index, "n1", c.known)
			own := c.conn.Path.PathSegments[c.conn.Path.Index]
			if own.Name != "n1" || c.conn.Id != own.Id || own.Id == "" || c.ours != "" && own.Id != c.ours {
				t.Errorf("our segment is %v, the connection's id %q", own, c.conn.Id)
			}
			if rest := len(c.conn.Path.PathSegments) - index - 2; rest != c.rest {
				t.Errorf("%d segments after ours, want %d", rest, c.rest)
			}
			leave(c.conn, index)
			if c.conn.Id != id || int(c.conn.Path.Index) != index {
				t.Errorf("the caller gets id %q index %d back, want %q %d", c.conn.Id, c.conn.Path.Index, id, index)
			}
		})
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	long := path(0)
	for range maxPath + 1 {
		long.PathSegments = append(long.PathSegments, &networkservice.PathSegment{Name: "x", Id: "x"})
	}
	for name, c := range map[string]*networkservice.Connection{
		"index outside":        {Id: "c1", Path: path(3, "client", "c1")},
		"another segment's id": {Id: "c1", Path: path(0, "client", "c2")},
		"no id":                {Path: path(0, "client", "")},
		"a circle":             {Id: "x", Path: long},
		"an empty segment":     {Id: "c1", Path: &networkservice.Path{PathSegments: []*networkservice.PathSegment{nil}}},
	} {
		if _, err := caller(c); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecordIDsAreValidNames(t *testing.T) {
	for _, id := range []string{"c1", "UPPER", "a/b", "ünïcode", "..", string(make([]byte, 1000)), "ends-with-a-very-long-name-that-goes-on-and-on-and-on-and-on-1234567"} {
		if r := recordID(id); !models.ValidName(r) {
			t.Errorf("%q becomes %q", id, r)
		}
	}
	if recordID("c1") != "c1" || recordID("A") == recordID("B") {
		t.Error("ids are lost")
	}
}

// What is on record is shared by all who look at it: a request changes its own copy.
func TestARequestLeavesThePathOnRecordAlone(t *testing.T) {
	known := &networkservice.Connection{Id: "c1", Path: path(0, "client", "c1", "n1", "known-id", "fw", "fw-id")}
	conn := &networkservice.Connection{Id: "c1", Path: path(0, "client", "c1")}
	enter(conn, 0, "n1", known)
	conn.Path.PathSegments[1].Token, conn.Path.PathSegments[2].Token = "new", "new"
	for _, s := range known.Path.PathSegments {
		if s.Token != "" {
			t.Errorf("the segment %s on record has changed", s.Name)
		}
	}
}
