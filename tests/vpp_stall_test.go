package tests

import (
	"fmt"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// VPP's main thread forwards and answers the API: while it does one thing, the other waits.
// A burst that comes meanwhile is not lost.
func TestABurstWaitsForVPP(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	near, far := lab.NewNamespace(t), lab.NewNamespace(t)
	a.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/c1", fmt.Sprintf(`{"id":"c1","payload":"ETHERNET","path":"forwarder",
		"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.1/24"]},
		"endpoint":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.2/24"]}}`, near.Path, far.Path))
	lab.Eventually(t, 20*time.Second, "the connection", func() error {
		_, err := near.Try("ping", "-c", "1", "-W", "1", "10.99.0.2")
		return err
	})
	to, err := far.ListenPacket("udp", "10.99.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	from, err := near.Dial(t.Context(), "udp", "10.99.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	const burst = 100 // as many as the receiver's socket holds with ease
	v.Stop()
	for i := range burst {
		if _, err := from.Write([]byte{byte(i)}); err != nil {
			t.Error(err)
		}
	}
	v.Cont()
	to.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range burst {
		buf := make([]byte, 2)
		if _, _, err := to.ReadFrom(buf); err != nil || buf[0] != byte(i) {
			t.Fatalf("packet %d: got %d, %v", i, buf[0], err)
		}
	}
}
