package linux

import (
	"crypto/ecdh"
	"crypto/rand"
	"net/netip"
	"testing"
)

// A keyPair is what two ends of WireGuard need of one of them.
type keyPair struct{ private, public [32]byte }

func wireGuardKeys() (pairs [2]keyPair) {
	for i := range pairs {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		copy(pairs[i].private[:], k.Bytes())
		copy(pairs[i].public[:], k.PublicKey().Bytes())
	}
	return pairs
}

func TestSocketAddressesOfWireGuard(t *testing.T) {
	for _, s := range []string{"192.0.2.1:51820", "[2001:db8::1]:65535"} {
		want := netip.MustParseAddrPort(s)
		if got := parseSockaddr(sockaddr(want)); got != want {
			t.Errorf("%s becomes %s", want, got)
		}
	}
	if got := parseSockaddr(nil); got.IsValid() {
		t.Errorf("nothing becomes %s", got)
	}
}
