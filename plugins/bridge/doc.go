// Package bridge keeps the bridge domains that this node has members of.
package bridge
