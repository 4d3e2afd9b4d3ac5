package nsm

import (
	"bytes"
	"sync"
	"testing"
)

// shown is how many bytes of a process's log a failed test shows, its last ones.
const shown = 16 << 10

// log takes in what a process writes.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// show shows the log if the test has failed.
func (l *log) show(t *testing.T, of string) {
	if !t.Failed() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.Bytes()
	t.Logf("log of the %s:\n%s", of, text[max(0, len(text)-shown):])
}
