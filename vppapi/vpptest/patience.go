package vpptest

import (
	"os"
	"strconv"
	"time"
)

// Slow is the environment variable that says how many times longer tests are to wait for
// things, on a machine that is emulated.
const Slow = "PATCHBAY_TEST_SLOW"

// Threads is the environment variable that says how many workers each VPP has whose test
// does not say, so that any test can be run with some.
const Threads = "PATCHBAY_TEST_WORKERS"

func threads() int {
	n, err := strconv.Atoi(os.Getenv(Threads))
	if err != nil {
		return 0
	}
	return n
}

// Patience is how long to wait for what takes at most so long on a machine.
func Patience(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv(Slow)); err == nil && n > 1 {
		return d * time.Duration(n)
	}
	return d
}
