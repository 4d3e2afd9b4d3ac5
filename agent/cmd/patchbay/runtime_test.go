package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryThreadGetsSlack(t *testing.T) {
	if err := slacken(); errors.Is(err, os.ErrPermission) {
		t.Skip("this is without CAP_SYS_NICE: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	slack := func(tid string) string {
		data, err := os.ReadFile("/proc/" + tid + "/timerslack_ns")
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it has ended
			t.Error(err)
		}
		return strings.TrimSpace(string(data))
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if got := slack(thread.Name()); got != "1000000" && got != "" {
			t.Errorf("thread %s has the slack %s, want 1000000", thread.Name(), got)
		}
	}
	young := make(chan string)
	for range 2 * len(threads) { // more than there are, so that some are new
		go func() {
			runtime.LockOSThread() // and ends with it
			young <- slack(fmt.Sprint(unix.Gettid()))
		}()
	}
	for range 2 * len(threads) {
		if got := <-young; got != "1000000" {
			t.Errorf("a thread that was started later has the slack %s, want 1000000", got)
		}
	}
}
