package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// How much later than it asked for a sleeping thread may be woken, in nanoseconds (Linux has 50 µs).
const (
	// monitorSlack is Go's monitor's. While anything runs it wakes every 20 µs, which on two cores
	// takes a fifth of the processor's time that a request costs.
	monitorSlack = "1000000"
	// promptSlack is that of the others, which sleep for 3 µs before they take a goroutine from another.
	promptSlack = "1"
)

// SetTimerSlack gives Go's monitor a millisecond of timer slack and the other threads of this process next to none;
// those to come have that of the thread that starts them (proc_pid_timerslack_ns(5)). Without CAP_SYS_NICE
// only the calling thread's can be set, and the error is os.ErrPermission.
func SetTimerSlack() error {
	for set := ""; ; {
		threads, err := threadsOfThis()
		if err != nil {
			return err
		}
		now := strings.Join(threads, " ")
		if now == set {
			return nil // none has come meanwhile, started by one that was yet to be set
		}
		set = now
		var errs []error
		for i, t := range threads {
			slack := promptSlack
			if i == 1 { // the runtime begins with the monitor
				slack = monitorSlack
			}
			if err := os.WriteFile("/proc/"+t+"/timerslack_ns", []byte(slack), 0); err != nil && !errors.Is(err, os.ErrNotExist) { // that has ended
				errs = append(errs, fmt.Errorf("set the timer slack: %w", err))
			}
		}
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
	}
}

// threadsOfThis are the ids of this process's threads, in the order in which they were started.
func threadsOfThis() ([]string, error) {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list the threads of this process: %w", err)
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list the threads of this process: %w", err)
	}
	return threads, nil
}
