// Command patchbay is the agent of a node and the commands that use it.
package main

import (
	"os"
	"runtime"
)

// main leaves the main thread, on which it begins, to itself: that thread cannot end in a network namespace, so that
// whoever else was on it and wanted into one had to wait for another.
func main() {
	runtime.LockOSThread()
	status := make(chan int)
	go func() { status <- execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr) }()
	os.Exit(<-status)
}
