package process

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func textLog(w io.Writer) (*slog.Logger, func()) {
	return LateLog(w, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) })
}

func messages(log string) (all []string) {
	for line := range strings.Lines(log) {
		_, msg, _ := strings.Cut(strings.TrimSpace(line), "msg=")
		all = append(all, msg)
	}
	return all
}

func TestLinesAreWrittenLateAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &counted{}
		log, flush := textLog(w)
		has := func(writes int, want string) {
			t.Helper()
			synctest.Wait()
			n, all := w.seen()
			if got := strings.Join(all, " "); n != writes || got != want {
				t.Errorf("%d writes, %q; want %d, %q", n, got, writes, want)
			}
		}
		log.Info("a")
		log.With("x", 1).WithGroup("g").Info("b")
		has(0, "")
		time.Sleep(late)
		has(1, "a b x=1")
		log.Info("c")
		log.Warn("d") // takes with it what waits
		has(2, "a b x=1 c d")
		log.Info("e")
		flush()
		has(3, "a b x=1 c d e")
		time.Sleep(time.Second)
		has(3, "a b x=1 c d e")
		changes := []string{"now"}
		log.Info("f", "what", changes) // would be another later
		changes[0] = "later"
		has(4, "a b x=1 c d e f what=[now]")
		for range lateLines { // who logs so much waits
			log.Info("g")
		}
		if n, _ := w.seen(); n != 5 {
			t.Errorf("%d writes", n)
		}
	})
}

func TestNoLineIsLostOrMixed(t *testing.T) {
	w := &counted{}
	log, flush := textLog(w)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				if log.Info("line"); i%50 == 0 {
					log.Error("line")
				}
			}
		})
	}
	wg.Wait()
	flush()
	_, all := w.seen()
	if len(all) != 8*204 {
		t.Errorf("%d lines", len(all))
	}
	for _, m := range all {
		if m != "line" {
			t.Errorf("%q", m)
		}
	}
}

// counted counts what is written to it, one write at a time.
type counted struct {
	mu     sync.Mutex
	log    bytes.Buffer
	writes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	return c.log.Write(b)
}

func (c *counted) seen() (writes int, all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes, messages(c.log.String())
}
