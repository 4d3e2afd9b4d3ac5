// Package negotiation decides which mechanism each end of a connection gets, and says
// in words why, and why not the others. It is pure: what the ends want and what the nodes
// offer comes in, a decision goes out, and the same question has the same answer.
//
// The rules, first to last; README.md has them as a table:
//
//  1. A mechanism is usable for an end that speaks it if the end's node offers it, lacks
//     nothing for it and can carry the payload in it. A client that insists on one, or an
//     endpoint that has answered with one, has no other.
//  2. Two mechanisms on one node are linked directly, or joined by the node's dataplane. On
//     two nodes, each joins its end with a tunnel that both offer, or has the tunnel itself
//     be the workload's interface.
//  3. Of what is left, the best is taken: as the configuration prefers; with the policy for
//     a direct path, what needs no forwarder; shared memory only where both ends sit on one
//     node and speak it, elsewhere it comes after the rest; as the client prefers; the same
//     mechanism at both ends; as the endpoint prefers; and tunnels in the order of the
//     client's node.
//
// Nothing here switches over the names of mechanisms: what one can do stands in the node's
// [models.Offer], so that a new mechanism needs no change.
package negotiation
