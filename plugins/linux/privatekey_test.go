package linux

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAPrivateKeyDoesNotShow(t *testing.T) {
	var key PrivateKey
	for i := range key {
		key[i] = 0xab
	}
	w := WireGuard{PrivateKey: key, Port: 51820}
	var log bytes.Buffer
	timeless := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // its digits may be those of the key
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, timeless), slog.NewJSONHandler(&log, timeless)} {
		slog.New(h).Info("x", "key", key, "device", w, "pointer", &w, "list", []WireGuard{w})
	}
	said := []string{log.String()}
	for _, v := range []any{key, &key, w, &w, map[string]any{"device": w}, struct{ D any }{w}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
			said = append(said, fmt.Sprintf(verb, v))
		}
		text, err := json.Marshal(v)
		check(t, err)
		said = append(said, string(text))
	}
	for _, s := range said {
		for _, shown := range []string{"abab", "ABAB", "171", "0xab", "q6ur"} {
			if strings.Contains(s, shown) {
				t.Errorf("it shows: %s", s)
			}
		}
	}
	if s := fmt.Sprint(w); !strings.Contains(s, "51820") {
		t.Errorf("what is no secret does not show: %s", s)
	}
}
