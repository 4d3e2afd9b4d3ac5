package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ballastBytes is about what 1,000 connections keep in memory.
const ballastBytes = 24 << 20

// ballast makes the heap look larger than it is, so that it is collected less often: that
// of an agent with few connections is so small that the collector would run after every
// dozen requests, and the next one would wait for it. It is never written to, so that no
// memory stands behind it.
func ballast() []byte { return make([]byte, ballastBytes) }

// timerSlack is how much later than it asked for a sleeping thread may be woken.
const timerSlack = time.Millisecond

// slacken gives that slack to all threads of this process, and so to those that they will
// start (proc_pid_timerslack_ns(5)). While anything runs, Go's monitor wakes every 20 µs, which
// on two cores takes a fifth of what a request does. It needs CAP_SYS_NICE.
func slacken() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	slack := []byte(strconv.FormatInt(timerSlack.Nanoseconds(), 10))
	var errs []error
	for _, t := range threads {
		if err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", slack, 0); err != nil && !errors.Is(err, os.ErrNotExist) { // that has ended
			errs = append(errs, fmt.Errorf("set the timer slack: %w", err))
		}
	}
	return errors.Join(errs...)
}
