// Package linux is the only room that talks netlink and switches network
// namespaces. It knows namespaces by references that can be opened again later,
// makes and finds interfaces in them, sets addresses, routes, neighbours and policy
// rules, and tells when a namespace or an interface comes, changes or goes.
//
// It keeps no namespace alive: descriptors and sockets in one are closed a moment after
// the operation ends. In between, a namespace is known by its nsid, a number that the
// kernel gives it within the agent's own namespace.
//
// Everything made here is marked as ours in the kernel itself, see [Group], [Tag]
// and [Protocol]; what is not so marked is never changed or deleted.
package linux
