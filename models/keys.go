package models

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPrefix is where everything of Patchbay stands in etcd.
const DefaultPrefix = "/patchbay/v1/"

// Keys builds and reads the etcd keys of one installation as one node sees it.
type Keys struct {
	Prefix string // ends with a slash
	Node   string // this node's name
}

// NewKeys returns the keys under prefix (a missing final slash is added) for a node.
func NewKeys(prefix, node string) Keys {
	if !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return Keys{Prefix: prefix, Node: node}
}

// CrossConnects is the prefix of this node's desired cross-connects.
func (k Keys) CrossConnects() string { return k.Prefix + "nodes/" + k.Node + "/crossconnects/" }

// CrossConnect is the key of a desired cross-connect of this node.
func (k Keys) CrossConnect(id string) string { return k.CrossConnects() + Escape(id) }

// Statuses is the prefix of the status of this node's cross-connects.
func (k Keys) Statuses() string { return k.Prefix + "status/" + k.Node + "/crossconnects/" }

// Status is the key of the status of a cross-connect of this node.
func (k Keys) Status(id string) string { return k.Statuses() + Escape(id) }

// Connections is the prefix of this node's durable requests.
func (k Keys) Connections() string { return k.Prefix + "nodes/" + k.Node + "/connections/" }

// Connection is the key of a durable request of this node.
func (k Keys) Connection(id string) string { return k.Connections() + Escape(id) }

// ConnectionStatuses is the prefix of the status of this node's durable requests.
func (k Keys) ConnectionStatuses() string { return k.Prefix + "status/" + k.Node + "/connections/" }

// ConnectionStatus is the key of the status of a durable request of this node.
func (k Keys) ConnectionStatus(id string) string { return k.ConnectionStatuses() + Escape(id) }

// Agents is the prefix of what all nodes offer.
func (k Keys) Agents() string { return k.Prefix + "agents/" }

// Agent is the key of what this node offers.
func (k Keys) Agent() string { return k.Agents() + Escape(k.Node) }

// Services is the prefix of all network services.
func (k Keys) Services() string { return k.Prefix + "services/" }

// Service is the key of a network service.
func (k Keys) Service(name string) string { return k.Services() + Escape(name) }

// Endpoints is the prefix of all endpoints.
func (k Keys) Endpoints() string { return k.Prefix + "endpoints/" }

// Endpoint is the key of an endpoint.
func (k Keys) Endpoint(name string) string { return k.Endpoints() + Escape(name) }

// Bridges is the prefix of all bridges.
func (k Keys) Bridges() string { return k.Prefix + "bridges/" }

// Bridge is the key of a bridge.
func (k Keys) Bridge(name string) string { return k.Bridges() + Escape(name) }

// BridgeStatuses is the prefix of what bridges are on this node.
func (k Keys) BridgeStatuses() string { return k.Prefix + "status/" + k.Node + "/bridges/" }

// BridgeStatus is the key of what a bridge is on this node.
func (k Keys) BridgeStatus(name string) string { return k.BridgeStatuses() + Escape(name) }

// Members is the prefix of this node's members of all bridges.
func (k Keys) Members() string { return k.Prefix + "nodes/" + k.Node + "/members/" }

// Member is the key of a member of a bridge on this node.
func (k Keys) Member(bridge, id string) string {
	return k.Members() + Escape(bridge) + "/" + Escape(id)
}

// NodeBridges is the prefix of the bridges that this node says it has members of.
func (k Keys) NodeBridges() string { return k.Prefix + "nodes/" + k.Node + "/bridges/" }

// NodeBridge is the key of one.
func (k Keys) NodeBridge(name string) string { return k.NodeBridges() + Escape(name) }

// Addresses is the prefix of all addresses of the members of a bridge, on every node.
func (k Keys) Addresses(bridge string) string { return k.Prefix + "addresses/" + Escape(bridge) + "/" }

// Address is the key of a MAC or IP address of a member of a bridge.
func (k Keys) Address(bridge, address string) string { return k.Addresses(bridge) + Escape(address) }

// Mesh is the prefix of what connects the nodes that have members of a bridge.
func (k Keys) Mesh(bridge string) string { return k.Prefix + "mesh/" + Escape(bridge) + "/" }

// MeshNodes is the prefix of the nodes that have members of a bridge.
func (k Keys) MeshNodes(bridge string) string { return k.Mesh(bridge) + "nodes/" }

// MeshNode says that this node has members of a bridge.
func (k Keys) MeshNode(bridge string) string { return k.MeshNodes(bridge) + Escape(k.Node) }

// MeshVNI is the key of a bridge's VNI.
func (k Keys) MeshVNI(bridge string) string { return k.Mesh(bridge) + "vni" }

// VNI is the key of a VNI, which says what bridge it belongs to.
func (k Keys) VNI(n uint32) string { return k.Prefix + "vnis/" + strconv.FormatUint(uint64(n), 10) }

// Escape makes one key segment of a name: what NSM clients register may hold
// slashes and other characters, which are percent-encoded.
func Escape(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// Name reads the name back from a key directly under prefix.
func Name(prefix, key string) (string, error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || rest == "" || strings.Contains(rest, "/") {
		return "", fmt.Errorf("key %q is not directly under %q", key, prefix)
	}
	return url.PathUnescape(rest)
}
