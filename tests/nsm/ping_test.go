package nsm

import (
	"errors"
	"fmt"
	"strings"
)

// pinging is a ping that runs all the while.
type pinging struct{ *background }

// keepPinging pings an address 50 times a second, and returns after the first answer.
func (n *netns) keepPinging(address string) pinging {
	n.t.Helper()
	p := pinging{n.begin("ping", "-n", "-i", "0.02", address)}
	eventually(n.t, "the first answer to a ping", func() error {
		if len(sequence(p.text())) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	return p
}

// stop ends the ping and checks that every packet was answered; the last may have been on
// its way. It gives how many were.
func (p pinging) stop() int {
	p.t.Helper()
	text := p.background.stop()
	answers := sequence(text)
	for i, n := range answers {
		if n != answers[0]+i {
			p.t.Errorf("packets were lost: answer %d came after %d\n%s", n, answers[i-1], text[max(0, len(text)-300):])
			break
		}
	}
	return len(answers)
}

// sequence reads the numbers of the answers from ping's output.
func sequence(text string) (numbers []int) {
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, "icmp_seq=")
		var n int
		if ok && strings.Contains(line, "time=") {
			if _, err := fmt.Sscan(rest, &n); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers
}
