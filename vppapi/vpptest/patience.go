package vpptest

import (
	"os"
	"strconv"
	"time"
)

// Slow is the environment variable that says how many times longer tests are to wait for
// things, on a machine that is emulated.
const Slow = "PATCHBAY_TEST_SLOW"

// Patience is how long to wait for what takes at most so long on a machine.
func Patience(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv(Slow)); err == nil && n > 1 {
		return d * time.Duration(n)
	}
	return d
}
