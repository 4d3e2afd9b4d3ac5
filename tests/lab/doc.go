// Package lab is what the integration tests, the chaos runs and the benchmarks stand on:
// a real agent process with an etcd of its own, real network namespaces, and workloads
// and endpoints that speak NSM's API. What it makes, it removes at the end of the test.
package lab
