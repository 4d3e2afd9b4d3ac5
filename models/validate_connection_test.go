package models

import (
	"strings"
	"testing"
)

func TestValidateConnection(t *testing.T) {
	valid := func() *Connection {
		return &Connection{Id: "c1", NetworkService: "fw", Mechanism: &Mechanism{Type: "KERNEL"}, Addresses: []string{"10.60.0.1/24"}}
	}
	for _, c := range []struct {
		name   string
		change func(*Connection)
		want   string // empty: valid
	}{
		{"as little as can be", func(c *Connection) { c.Addresses = nil }, ""},
		{"with everything", func(c *Connection) {
			c.Payload, c.Mtu, c.Labels, c.Endpoint = IP, 1400, map[string]string{"app": "web"}, "fw-1"
		}, ""},
		{"id", func(c *Connection) { c.Id = "C/1" }, "id: \"C/1\""},
		{"service", func(c *Connection) { c.NetworkService = "" }, "networkService: \"\" must be"},
		{"payload", func(c *Connection) { c.Payload = "FRAMES" }, "payload: \"FRAMES\" is not known"},
		{"mechanism", func(c *Connection) { c.Mechanism = nil }, "mechanism.type: is missing"},
		{"mtu", func(c *Connection) { c.Mtu = 20 }, "mtu: 20 is out of range"},
		{"mtu for IPv6", func(c *Connection) { c.Mtu, c.Addresses = 1000, []string{"fd00::1/64"} }, "mtu: 1000 is too small"},
		{"address", func(c *Connection) { c.Addresses = append(c.Addresses, "10.0.0.1") }, "addresses[1]: \"10.0.0.1\" is not"},
		{"label", func(c *Connection) { c.Labels = map[string]string{"": "x"} }, "labels: has a label without"},
		{"two at once", func(c *Connection) { c.Id, c.Mechanism = "", nil }, "mechanism.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := valid()
			c.change(x)
			err := ValidateConnection(x)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
