package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/tests/lab"
)

// stranger names the variable that makes this test binary a client of another user: what
// it is to do, as JSON.
const stranger = "PATCHBAY_TEST_STRANGER"

// errand is what a stranger does: one call, with the descriptor of a file passed along,
// or "dial NETWORK" or "listen" on a socket.
type errand struct {
	Socket, Call, Message, Pass string
}

func actAsStranger() int {
	var e errand
	if err := json.Unmarshal([]byte(os.Getenv(stranger)), &e); err != nil {
		fmt.Println(err)
		return 1
	}
	err := e.run()
	fmt.Printf("%d %s\n", status.Code(err), status.Convert(err).Message())
	return 0
}

func (e errand) run() error {
	if network, ok := strings.CutPrefix(e.Call, "dial "); ok {
		c, err := net.Dial(network, e.Socket)
		if err != nil {
			return err
		}
		return c.Close()
	}
	if e.Call == "listen" {
		l, err := net.Listen("unix", e.Socket)
		if err != nil {
			return err
		}
		return l.Close()
	}
	cc, err := grpc.NewClient("unix://"+e.Socket, grpc.WithTransportCredentials(fdpass.Credentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var options []grpc.CallOption
	if e.Pass != "" {
		f, err := os.Open(e.Pass)
		if err != nil {
			return err
		}
		defer f.Close()
		options = append(options, fdpass.Send(f))
	}
	c := networkservice.NewNetworkServiceClient(cc)
	if e.Call == "close" {
		conn := &networkservice.Connection{}
		if err := protojson.Unmarshal([]byte(e.Message), conn); err != nil {
			return err
		}
		_, err = c.Close(ctx, conn)
		return err
	}
	in := &networkservice.NetworkServiceRequest{}
	if err := protojson.Unmarshal([]byte(e.Message), in); err != nil {
		return err
	}
	_, err = c.Request(ctx, in, options...)
	return err
}

// as has another user do an errand and gives the answer's code and text.
func as(t *testing.T, uid uint32, e errand) (codes.Code, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	task, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	// The binary lies where only root can go, so it is run by its descriptor.
	binary, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), stranger+"="+string(task))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as user %d: %v\n%s", uid, err, out)
	}
	code, text, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	var n codes.Code
	if _, err := fmt.Sscan(code, (*uint32)(&n)); err != nil {
		t.Fatalf("as user %d: %s", uid, out)
	}
	return n, text
}

func asJSON(t *testing.T, in *networkservice.NetworkServiceRequest) string {
	t.Helper()
	data, err := protojson.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAnIDBelongsToWhoUsedItFirst(t *testing.T) {
	s := newSetup(t)
	request := asJSON(t, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"))
	first := errand{Socket: s.agent.Socket, Call: "request", Message: request, Pass: s.ns.Path}
	if code, text := as(t, 1001, first); code != codes.OK {
		t.Fatalf("the first user: %v %s", code, text)
	}
	if code, text := as(t, 1002, first); code != codes.PermissionDenied || !strings.Contains(text, `"c1"`) {
		t.Errorf("another user's request: %v %s", code, text)
	}
	conn := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0").Connection
	data, err := protojson.Marshal(conn)
	if err != nil {
		t.Fatal(err)
	}
	closing := errand{Socket: s.agent.Socket, Call: "close", Message: string(data)}
	if code, text := as(t, 1002, closing); code != codes.PermissionDenied {
		t.Errorf("another user's close: %v %s", code, text)
	}
	s.ns.Ping(t, "10.0.1.2") // and it is still there
	if code, text := as(t, 1001, first); code != codes.OK {
		t.Errorf("the first user's refresh, from another process: %v %s", code, text)
	}
	if code, text := as(t, 1001, closing); code != codes.OK {
		t.Errorf("the first user's close: %v %s", code, text)
	}
	put(s.agent, "theirs", record("theirs", s.ns, s.endpoint.Net, ""))
	awaitStatus(t, s.agent, "theirs", "UP")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := s.client.Pass(ctx, lab.NewRequest(t, "theirs", "fw", s.ns, "nsm9"), s.ns); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the id of a record in etcd: %v", err)
	}
}

func TestOnlyRootNamesANamespaceByPath(t *testing.T) {
	s := newSetup(t)
	in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
	in.MechanismPreferences[0].Parameters["inodeURL"] = "file://" + s.ns.Path
	if code, text := as(t, 1001, errand{Socket: s.agent.Socket, Message: asJSON(t, in)}); code != codes.InvalidArgument || !strings.Contains(text, "only root") {
		t.Errorf("another user: %v %s", code, text)
	}
	if left := s.ns.Interfaces(t); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := s.client.Request(ctx, in); err != nil {
		t.Errorf("root: %v", err)
	}
}
