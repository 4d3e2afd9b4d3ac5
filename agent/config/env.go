package config

import (
	"regexp"
	"slices"
	"strings"
)

// Environment variables that begin like configuration and are none.
const (
	// EnvAgent is where the commands reach the agent.
	EnvAgent = "PATCHBAY_AGENT"
	// EnvID and those after it are handed to the command that `connect` and `serve` run.
	EnvID            = "PATCHBAY_ID"             // of the connection
	EnvService       = "PATCHBAY_SERVICE"        // the network service
	EnvEndpoint      = "PATCHBAY_ENDPOINT"       // the endpoint's name
	EnvMechanism     = "PATCHBAY_MECHANISM"      // type of the mechanism chosen
	EnvNetns         = "PATCHBAY_NETNS"          // path of the network namespace
	EnvInterface     = "PATCHBAY_INTERFACE"      // name of the interface
	EnvAddresses     = "PATCHBAY_ADDRESSES"      // own addresses in CIDR form, by spaces
	EnvPeerAddresses = "PATCHBAY_PEER_ADDRESSES" // the other end's, by spaces
	EnvSocket        = "PATCHBAY_SOCKET"         // path of a shared memory or vhost-user socket
	EnvSocketID      = "PATCHBAY_SOCKET_ID"      // memif's interface id on the socket
	EnvPCIAddress    = "PATCHBAY_PCI_ADDRESS"    // of a device
)

var notConfiguration = []string{
	EnvAgent, EnvID, EnvService, EnvEndpoint, EnvMechanism, EnvNetns, EnvInterface,
	EnvAddresses, EnvPeerAddresses, EnvSocket, EnvSocketID, EnvPCIAddress,
}

const envPrefix = "PATCHBAY_"

// Env is the key's environment variable: PATCHBAY_ETCD_DATA_DIR for etcd.data_dir.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Flag is the key's flag of `patchbay run` without dashes: etcd-data-dir for
// etcd.data_dir. A secret has none: command lines are for all to see.
func (k Key) Flag() string {
	if k.secret() {
		return ""
	}
	return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name)
}

// elsewhere are variables that others set: tests, and Kubernetes, which tells every
// container of the services in its namespace, of one named patchbay-web for instance by
// PATCHBAY_WEB_SERVICE_HOST and PATCHBAY_WEB_PORT_80_TCP_ADDR.
var elsewhere = regexp.MustCompile(`^PATCHBAY_(TEST_.*|(.*_)?(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?))$`)

// unknownEnv gives the first variable of the environment that looks like configuration
// and is not.
func unknownEnv(environ []string, known []Key) string {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, envPrefix) || value == "" ||
			elsewhere.MatchString(name) || slices.Contains(notConfiguration, name) {
			continue
		}
		if !slices.ContainsFunc(known, func(k Key) bool { return k.Env() == name }) {
			return name
		}
	}
	return ""
}
