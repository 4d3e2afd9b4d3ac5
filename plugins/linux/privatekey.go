package linux

import (
	"fmt"
	"io"
	"log/slog"
)

// A PrivateKey is WireGuard's secret (Curve25519). However it is printed, by fmt, slog or
// as JSON, alone or in what holds it, it does not show.
type PrivateKey [32]byte

const hiddenKey = "(private key)"

// Format writes no more than that there is a key, whatever the verb.
func (PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, hiddenKey) }

// MarshalText is what JSON shows.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// LogValue is what slog shows.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(hiddenKey) }
