package sriov

import (
	"testing"

	"go.patchbay.dev/plugins/sriov/sriovtest"
)

// BenchmarkDiscovery64 is the first look at a machine with 64 virtual functions on two cards.
func BenchmarkDiscovery64(b *testing.B) {
	m := sriovtest.New(b)
	m.Card(1, "ens1", 0, 32, 32)
	m.Card(2, "ens2", 1, 32, 32)
	for b.Loop() {
		if n := len(start(b, m, Pool{Name: "example.com/radio", Vendor: "8086"}).Devices()); n != 64 {
			b.Fatalf("%d devices", n)
		}
	}
}
