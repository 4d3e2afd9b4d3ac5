// Package process makes a process that answers once in a while answer promptly.
package process

import (
	"os"
	"runtime"
)

const (
	// ballastBytes is about what 1,000 connections keep in memory.
	ballastBytes = 24 << 20
	// roomBytes is about what the heap grows by from one collection to the next.
	roomBytes = 40 << 20
)

// PrepareHeap makes the heap one that requests need not wait for: it is collected seldom, and its pages are there.
// The ballast that it gives is to be kept (runtime.KeepAlive) for as long as requests come.
//
// Ballast makes the heap look larger than it is: that of an agent with few connections is so small that the
// collector would run after every dozen requests, and the next one would wait for it. It is never written to, so
// that no memory stands behind it.
func PrepareHeap() (ballast []byte) {
	ballast = make([]byte, ballastBytes)
	makeRoom()
	return ballast
}

// makeRoom has the heap's next pages given to it now. Else each is at its first use, for which a request waits,
// until the collector has run for the first time. They are written to one by one: where a hypervisor keeps tables
// of its own of a process's pages, those that the kernel has filled in (MADV_POPULATE_WRITE) are not in them yet.
func makeRoom() {
	room := make([]byte, roomBytes)
	for i := 0; i < len(room); i += os.Getpagesize() {
		room[i] = 1
	}
	runtime.GC() // it is free again, and its pages stay
}
