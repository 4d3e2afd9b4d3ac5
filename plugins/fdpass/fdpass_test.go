package fdpass

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// handler answers a call with a text.
type handler func(ctx context.Context, text string) (string, error)

// serve runs a gRPC server with one method on a unix socket that every user may connect to.
func serve(t *testing.T, h handler) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdpass")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	socket = filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	must(t, err)
	must(t, os.Chmod(socket, 0o777))
	s := grpc.NewServer(grpc.Creds(Credentials()))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in wrapperspb.StringValue
			if err := decode(&in); err != nil {
				return nil, err
			}
			out, err := h(ctx, in.Value)
			return wrapperspb.String(out), err
		},
	}}}, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func dial(t *testing.T, socket string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(c))
	must(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func call(ctx context.Context, cc *grpc.ClientConn, text string, opts ...grpc.CallOption) (string, error) {
	var out wrapperspb.StringValue
	err := cc.Invoke(ctx, "/test/Call", wrapperspb.String(text), &out, opts...)
	return out.Value, err
}

// receiveAndRead is a handler that reads the file that the call speaks of.
func receiveAndRead(ctx context.Context, url string) (string, error) {
	c, ok := FromContext(ctx)
	if !ok {
		return "", errors.New("no connection")
	}
	dev, ino, err := ParseURL(url)
	if err != nil {
		return "", err
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // it must be here when the handler runs
	f, err := c.Receive(now, dev, ino)
	if err != nil {
		return "", status.Error(codes.NotFound, err.Error())
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	return string(text), err
}

func TestClientPassesFilesWithItsCalls(t *testing.T) {
	cc := dial(t, serve(t, receiveAndRead), Credentials())
	var wg sync.WaitGroup
	for i := range 100 { // at once, on one connection
		f, want := file(t)
		text := fmt.Sprint("file ", i)
		_, err := f.WriteString(text)
		must(t, err)
		wg.Go(func() {
			got, err := call(t.Context(), cc, want.String(), Send(f))
			if err != nil || got != text {
				t.Errorf("%q, %v; want %q", got, err, text)
			}
			must(t, f.Close())
			if got, err = call(t.Context(), cc, want.String()); err != nil || got != text {
				t.Errorf("a later call that speaks of it: %q, %v; want %q", got, err, text)
			}
		})
	}
	wg.Wait()
	if _, err := call(t.Context(), cc, "inode://1/2"); status.Code(err) != codes.NotFound {
		t.Errorf("a file that was not passed: %v", err)
	}
}

func TestServerPassesFilesWithItsReply(t *testing.T) {
	f, want := file(t)
	cc := dial(t, serve(t, func(ctx context.Context, _ string) (string, error) {
		c, _ := FromContext(ctx)
		return want.String(), c.Send(f)
	}), Credentials())
	var p peer.Peer
	_, err := call(t.Context(), cc, "", grpc.Peer(&p))
	must(t, err)
	c, ok := FromPeer(&p)
	if !ok {
		t.Fatal("the call has no connection")
	}
	got, err := here(c, want)
	must(t, err)
	defer got.Close()
	if id(t, got) != want {
		t.Errorf("received %v, want %v", id(t, got), want)
	}
	if c.Peer().PID != int32(os.Getpid()) {
		t.Errorf("the server is %+v, want this process", c.Peer())
	}
}

func TestHandlerThatWaitsEndsWithItsCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cc := dial(t, serve(t, func(ctx context.Context, _ string) (string, error) {
		c, _ := FromContext(ctx)
		cancel() // the client's end
		_, err := c.Receive(ctx, 1, 2)
		ended <- err
		return "", err
	}), Credentials())
	if _, err := call(ctx, cc, ""); status.Code(err) != codes.Canceled {
		t.Errorf("%v, want it cancelled", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's end: %v", err)
	}
}

func TestHandlerThatWaitsEndsWithItsConnection(t *testing.T) {
	waits, ended := make(chan struct{}), make(chan error, 1)
	cc := dial(t, serve(t, func(ctx context.Context, _ string) (string, error) {
		c, _ := FromContext(ctx)
		close(waits)
		_, err := c.Receive(context.WithoutCancel(ctx), 1, 2)
		ended <- err
		return "", err
	}), Credentials())
	go func() {
		<-waits
		cc.Close()
	}()
	if _, err := call(t.Context(), cc, ""); err == nil {
		t.Error("the call was answered")
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the handler's end: %v, want net.ErrClosed", err)
	}
}

func TestFilesNeedCredentials(t *testing.T) {
	socket := serve(t, func(context.Context, string) (string, error) { return "", nil })
	f, _ := file(t)
	_, err := call(t.Context(), dial(t, socket, insecure.NewCredentials()), "", Send(f))
	if err == nil || !strings.Contains(err.Error(), "not dialled with the credentials of fdpass") {
		t.Errorf("with other credentials: %v", err)
	}
	must(t, f.Close())
	if _, err = call(t.Context(), dial(t, socket, Credentials()), "", Send(f)); err == nil {
		t.Error("a closed file was passed")
	}
}

func TestOnlyUnixSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	creds := Credentials().Clone()
	_, _, err1 := creds.ServerHandshake(c)
	_, _, err2 := creds.ClientHandshake(t.Context(), "", c)
	for _, err := range []error{err1, err2} {
		if err == nil || !strings.Contains(err.Error(), "not on a unix socket") {
			t.Errorf("TCP: %v, want it refused", err)
		}
	}
}

// TestPeer calls from another process, as another user in another network namespace.
func TestPeer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to start a process of another user in a namespace of its own")
	}
	type seen struct {
		Peer
		netns uint64 // as the peer says
	}
	got := make(chan seen, 1)
	socket := serve(t, func(ctx context.Context, url string) (string, error) {
		c, _ := FromContext(ctx)
		_, ino, err := ParseURL(url)
		got <- seen{c.Peer(), ino}
		return "", err
	})
	var own unix.Stat_t
	must(t, unix.Stat("/proc/self/ns/net", &own))

	cmd := exec.Command("/proc/self/exe") // by this name it may, whatever the folders' modes
	cmd.Env = append(os.Environ(), "FDPASS_CALL="+socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 54321}, Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := <-got
	if p.UID != 12345 || p.GID != 54321 || p.PID != int32(cmd.Process.Pid) || p.Netns != p.netns || p.Netns == own.Ino {
		t.Errorf("the peer is seen as %+v; it was uid 12345, gid 54321, pid %d, and not in namespace %d", p, cmd.Process.Pid, own.Ino)
	}
}

// callAsHelper is the process that TestPeer starts.
func callAsHelper(socket string) error {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	url, err := URL(f)
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(Credentials()))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = call(ctx, cc, url, Send(f))
	return errors.Join(err, cc.Close())
}

func TestMain(m *testing.M) {
	if socket := os.Getenv("FDPASS_CALL"); socket != "" {
		if err := callAsHelper(socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if socket := os.Getenv("FDPASS_DIAL"); socket != "" {
		if _, err := net.Dial("unix", socket); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestPeerThatHasGone accepts a connection whose maker has ended, so that its process number
// may be another's.
func TestPeerThatHasGone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "FDPASS_DIAL="+socket)
	must(t, cmd.Run())
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	got, err := identifyPeer(c.(*net.UnixConn))
	must(t, err)
	want := Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(cmd.Process.Pid)}
	if got.PID == 0 { // newer kernels forget the number
		want.PID = 0
	}
	if got != want {
		t.Errorf("seen as %+v, want %+v", got, want)
	}
	raw, err := c.(*net.UnixConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		if _, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); errors.Is(err, unix.ENOPROTOOPT) {
			t.Skip("this kernel has no SO_PEERPIDFD to tell a reused number by")
		}
		if got := netns(int(fd), int32(os.Getpid())); got != 0 {
			t.Errorf("its number used again, it is in the namespace %d of another process", got)
		}
	}))
}

func TestNetnsOfTheRightProcess(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer closeAll(fds[:])
	if got := netns(fds[0], 0); got != 0 {
		t.Errorf("a peer in a PID namespace that is not seen is in namespace %d", got)
	}
	if got := netns(fds[0], 1<<30); got != 0 {
		t.Errorf("a process that does not exist is in namespace %d", got)
	}
	var own unix.Stat_t
	must(t, unix.Stat("/proc/self/ns/net", &own))
	if got := netns(fds[0], int32(os.Getpid())); got != own.Ino {
		t.Errorf("this process is in namespace %d, want %d", got, own.Ino)
	}
}
