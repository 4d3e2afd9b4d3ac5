// Package lab is several nodes on one machine: network namespaces on an underlay that can
// delay, lose and be cut, one etcd cluster, an agent and, where it is asked for, a VPP on
// each. The tests, the demo and `make lab` use it. All that it makes is named in its state
// file and goes with it; what it starts dies with the process that started it.
package lab
