package vpptest

import (
	"os/exec"
	"runtime"
)

// start starts a process that is to die with this one. The kernel sends its signal when
// the thread that started it ends, so that thread is kept.
func start(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- cmd.Start()
		if cmd.Process != nil {
			select {}
		}
	}()
	return <-result
}
