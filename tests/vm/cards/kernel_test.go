package cards

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// Two workloads with a virtual function each, and everything that can happen to them.
func TestInterfaces(t *testing.T) {
	w := start(t)
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	client := in(a, vf(t, 0), "10.60.0.1/24")
	client.Mac = "02:00:00:00:60:01"
	w.apply(t, "c1", client, in(b, vf(t, 1), "10.60.0.2/24"))
	s := w.await(t, "c1", "UP")
	if s.Client.Interface != "nsm0" || s.Client.Parameters["pciAddress"] != vf(t, 0) || s.Endpoint.Parameters["pciAddress"] != vf(t, 1) {
		t.Errorf("%+v", s)
	}

	t.Run("the card switches", func(t *testing.T) {
		reaches(t, a, "10.60.0.2", "10.60.0.10", "10.60.0.100")
		reaches(t, w.wire, "10.60.0.1", "10.60.0.2")
		if out := a.Run(t, "ip", "link", "show", "nsm0"); !strings.Contains(out, client.Mac) || !strings.Contains(out, "alias patchbay:c1:client") {
			t.Error(out)
		}
		// Nothing of this node is in between.
		if out := lab.Run(t, "ip", "-br", "link"); strings.Contains(out, "pb") || strings.Contains(out, "veth") || strings.Contains(out, "tap") {
			t.Error(out)
		}
		if list, _ := w.kernel.VFs(pf); list[0].MAC.String() != client.Mac || !list[0].Spoof || list[0].VLAN != 0 {
			t.Errorf("%+v", list[0])
		}
	})
	t.Run("VLANs are apart", func(t *testing.T) {
		c, d := lab.NewNamespace(t), lab.NewNamespace(t)
		w.apply(t, "c2", in(c, vf(t, 3), "10.60.0.3/24"), in(d, vf(t, 4), "10.60.0.4/24"))
		w.await(t, "c2", "UP")
		reaches(t, c, "10.60.0.4")
		apart(t, c, "10.60.0.1", "10.60.0.10", "10.60.0.100")
		if list, _ := w.kernel.VFs(pf); list[3].VLAN != 7 || list[3].MaxRate != 100 {
			t.Errorf("%+v", list[3])
		}
		// The wire carries their frames with the tag.
		w.wire.Run(t, "ip", "link", "add", "link", far, "name", "v7", "type", "vlan", "id", "7")
		w.wire.Run(t, "ip", "link", "set", "v7", "up")
		w.wire.Run(t, "ip", "addr", "add", "10.60.0.107/24", "dev", "v7")
		w.wire.Run(t, "ip", "route", "replace", "10.60.0.3/32", "dev", "v7")
		reaches(t, c, "10.60.0.107")
		w.wire.Run(t, "ip", "link", "del", "v7")
		w.Patchbay("delete", "crossconnect", "c2")
	})
	t.Run("what is taken is refused by name", func(t *testing.T) {
		c := lab.NewNamespace(t)
		for _, r := range []struct {
			client, endpoint end
			want             string
		}{
			{in(c, vf(t, 0), "10.60.0.5/24"), noop(), `is in use by the client of connection "c1"`},
			{in(c, vf(t, 2), "10.60.0.5/24"), in(c, vf(t, 3), "10.60.0.6/24"), "is in VLAN 7 by its pool"},
			{in(c, "0000:09:10.0", "10.60.0.5/24"), noop(), "is in no pool of this node"},
			{noop(), noop(), "is NOOP at both ends"},
		} {
			if out, err := w.tryApply(t, "c3", r.client, r.endpoint); err == nil || !strings.Contains(out, r.want) {
				t.Errorf("%v: %s, not %q", err, out, r.want)
			}
		}
	})
	t.Run("a namespace ends with the function in it", func(t *testing.T) {
		b.Delete(t)
		s := w.await(t, "c1", "PENDING")
		t.Log(s.Reason)
		name := field(w.home[vf(t, 1)], "interface ")
		lab.Eventually(t, 30*time.Second, "its interface to be home as "+name, func() error {
			_, err := os.Stat("/sys/class/net/" + name)
			return err
		})
		b.Make(t)
		w.await(t, "c1", "UP")
		reaches(t, a, "10.60.0.2")
	})
	t.Run("the agent is killed and started again", func(t *testing.T) {
		was := a.Run(t, "cat", "/sys/class/net/nsm0/ifindex")
		w.Kill()
		w.Start()
		w.WaitReady()
		w.await(t, "c1", "UP")
		if n := w.Operations(t); n != 0 {
			t.Errorf("%d operations", n)
		}
		if now := a.Run(t, "cat", "/sys/class/net/nsm0/ifindex"); now != was {
			t.Errorf("interface %s, before %s", now, was)
		}
		reaches(t, a, "10.60.0.2", "10.60.0.100")
	})
	t.Run("the workload renames it and sets it down", func(t *testing.T) {
		a.Run(t, "ip", "link", "set", "nsm0", "down")
		a.Run(t, "ip", "link", "set", "nsm0", "name", "other")
		lab.Eventually(t, 30*time.Second, "it to be mended", func() error {
			_, err := a.Try("ping", "-c", "1", "-W", "1", "10.60.0.2")
			return err
		})
	})
	t.Run("the VLAN is changed from outside", func(t *testing.T) {
		lab.Run(t, "ip", "link", "set", pf, "vf", "0", "vlan", "9")
		lab.Eventually(t, 30*time.Second, "it to be mended", func() error {
			_, err := a.Try("ping", "-c", "1", "-W", "1", "10.60.0.2")
			return err
		})
	})
	t.Run("sriov_numvfs is changed", func(t *testing.T) {
		file := filepath.Join(devices, vfCard(t), "sriov_numvfs")
		set(t, file, "0")
		s := w.await(t, "c1", "PENDING", "FAILED")
		t.Log(s.Reason)
		set(t, file, "6")
		w.await(t, "c1", "UP")
		reaches(t, a, "10.60.0.2", "10.60.0.100")
	})
	t.Run("the card is taken out and comes back", func(t *testing.T) {
		set(t, filepath.Join(devices, vfCard(t), "remove"), "1")
		s := w.await(t, "c1", "PENDING", "FAILED")
		t.Log(s.Reason)
		set(t, "/sys/bus/pci/rescan", "1")
		lab.Eventually(t, 30*time.Second, "the card", func() error {
			_, err := os.Stat("/sys/class/net/" + pf)
			return err
		})
		lab.Run(t, "ip", "link", "set", pf, "up")
		w.await(t, "c1", "UP")
		reaches(t, a, "10.60.0.2", "10.60.0.100")
	})
	w.Patchbay("delete", "crossconnect", "c1")
	lab.Eventually(t, 30*time.Second, "nothing to be left in the namespaces", func() error {
		if left := append(a.Interfaces(t), b.Interfaces(t)...); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		return nil
	})
	// Those that were made anew have other MACs; all else is as it was.
	lab.Eventually(t, 30*time.Second, "all to be as it was", func() error {
		for pci, now := range w.virtual(t) {
			for _, want := range []string{"driver igbvf", "VLAN:0", "MaxRate:0", "interface " + field(w.home[pci], "interface "), `alias ""`, "mtu 1500", "up false"} {
				if !strings.Contains(now, want) {
					return fmt.Errorf("%s: %s is not there: %s", pci, want, now)
				}
			}
		}
		return nil
	})
}

// field is the word after a text.
func field(s, after string) string {
	_, rest, _ := strings.Cut(s, after)
	word, _, _ := strings.Cut(rest, " ")
	return word
}

func vfCard(t *testing.T) string {
	vf(t, 0)
	return card
}

// By requests: of a pool, of a service's pool, and with an endpoint that is on the wire.
func TestRequests(t *testing.T) {
	w := start(t)
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	server := b.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "serve", "lan", "--netns", b.Path, "--pool", "example.com/radio", "--cidr", "10.60.0.0/24")
	server.Await(t, "serving")
	client := a.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "connect", "lan", "--id", "r1", "--netns", a.Path, "--interface", "nsm0", "--pool", "example.com/radio")
	client.Await(t, "connected r1")
	w.await(t, "r1", "UP")
	reaches(t, a, "10.60.0.2")
	out := w.Patchbay("describe", "crossconnect", "r1")
	if !strings.Contains(out, "KERNEL: virtual function 1 of eth0 ("+vf(t, 1)+"), pool example.com/radio") || !strings.Contains(out, "dataplane card") {
		t.Error(out)
	}
	// Without a function at one end, the card does not reach it.
	plain := lab.NewNamespace(t)
	if out, err := plain.Try(lab.Binary(t), "--agent", "unix://"+w.Socket, "connect", "lan", "--id", "r2", "--netns", plain.Path, "--timeout", "10s", "--", "true"); err == nil ||
		!strings.Contains(out, "KERNEL") {
		t.Errorf("%v: %s", err, out)
	}
	client.Interrupt(t)
	lab.Eventually(t, 30*time.Second, "the connection to be closed", func() error {
		if out, err := w.TryPatchbay("get", "crossconnects", "r1"); err == nil {
			return fmt.Errorf("it is there: %s", out)
		}
		return nil
	})
	server.Interrupt(t)
	w.atHome(t)

	wire := b.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "serve", "radio", "--mechanism", "NOOP", "--cidr", "10.60.0.100/30")
	wire.Await(t, "serving")
	client = a.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "connect", "radio", "--id", "r3", "--netns", a.Path, "--interface", "nsm0")
	client.Await(t, "connected r3")
	w.await(t, "r3", "UP")
	a.Run(t, "ip", "addr", "add", "10.60.0.30/24", "dev", "nsm0")
	reaches(t, a, "10.60.0.100")
	client.Interrupt(t)
	w.atHome(t)
}
