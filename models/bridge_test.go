package models

import (
	"strings"
	"testing"
)

func TestABridgeIsChecked(t *testing.T) {
	for _, c := range []struct {
		name, bridge string
		want         []string // in the error; none: it is valid
	}{
		{name: "a name is enough", bridge: `{"name":"lan1"}`},
		{name: "all that there is", bridge: `{"name":"lan1","service":"lan","subnets":["10.60.0.0/24","fd60::/64"],"gateways":["10.60.0.1/24"],"learning":false,
			"flooding":true,"unknownUnicast":false,"arpTermination":true,"macAge":600,"memberLimit":10,"staticMacs":[{"mac":"02:00:00:00:00:01","connection":"c1"}],
			"mtu":1400,"vni":8388608,"interconnect":"mesh"}`},
		{name: "an uplink", bridge: `{"name":"lan1","interconnect":"external","uplink":"up"}`},
		{name: "no name", bridge: `{}`, want: []string{`name: "" must be 1–63`}},
		{name: "subnets that are none", bridge: `{"name":"a","subnets":["10.60.0.1/24","x","127.0.0.0/8","10.60.0.0/24","10.60.0.0/16"]}`,
			want: []string{"subnets[0]: 10.60.0.1/24 has bits", "subnets[1]: \"x\" is not", "subnets[2]: 127.0.0.0/8 has no", "subnets[4]: 10.60.0.0/16 overlaps 10.60.0.0/24"}},
		{name: "gateways elsewhere", bridge: `{"name":"a","subnets":["10.60.0.0/24"],"gateways":["10.61.0.1/24","10.60.0.1/24","10.60.0.1/16","10.60.0.2"]}`,
			want: []string{"gateways[0]: 10.61.0.1 is in none", "gateways[2]: 10.60.0.1 is there twice", "gateways[3]: \"10.60.0.2\" is not"}},
		{name: "a MAC at two members", bridge: `{"name":"a","staticMacs":[{"mac":"02:00:00:00:00:0a","connection":"c1"},{"mac":"02:00:00:00:00:0A","connection":"c2"},{"mac":"01:00:00:00:00:01","connection":"c3"}]}`,
			want: []string{"staticMacs[1].mac: 02:00:00:00:00:0a is in staticMacs[0]", "staticMacs[2].mac: 01:00:00:00:00:01 cannot"}},
		{name: "half a minute", bridge: `{"name":"a","macAge":90}`, want: []string{"macAge: 90 is not possible"}},
		{name: "an MTU too small for IPv6", bridge: `{"name":"a","mtu":1000,"subnets":["fd60::/64"]}`, want: []string{"mtu: 1000 is too small for the IPv6"}},
		{name: "a VNI of single tunnels", bridge: `{"name":"a","vni":100}`, want: []string{"vni: 100 is out of range"}},
		{name: "a VNI without a mesh", bridge: `{"name":"a","vni":8388608,"interconnect":"external"}`, want: []string{"vni: is of a mesh"}},
		{name: "an interconnect that nobody knows", bridge: `{"name":"a","interconnect":"star"}`, want: []string{`interconnect: "star" is not known`}},
		{name: "an uplink out of a mesh", bridge: `{"name":"a","uplink":"up"}`, want: []string{"uplink: leads out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &Bridge{}
			if err := Unmarshal([]byte(c.bridge), b); err != nil {
				t.Fatal(err)
			}
			err := ValidateBridge(b)
			if len(c.want) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
		})
	}
}
