package config

// Key is one key of the configuration.
type Key struct {
	Name    string // as in the file: etcd.data_dir
	Default any    // string, bool, int, []int, []string or []Pool
	Help    string // one line
	shown   string // stands for a default that is known on the node only

	field  func(*Config) any            // *string, *bool, *int, *[]string, *[]int, *[]Pool or *Secret
	settle func(string) (string, error) // gives the value its final form; nil: as it is
	check  func(string) error           // of the value or of each entry; nil: any
}

// Keys is every key there is, in the order of the manual.
func Keys() []Key {
	return []Key{
		{Name: "node.name", Default: "", shown: "the host name", settle: orHostName, check: recordName,
			Help:  "this node's name in etcd and in the path of connections",
			field: func(c *Config) any { return &c.Node.Name }},
		{Name: "node.address", Default: "", check: optional(address),
			Help:  "IP address that tunnels from other nodes end at; without it the node offers no tunnels",
			field: func(c *Config) any { return &c.Node.Address }},
		{Name: "node.address6", Default: "", check: optional(address6),
			Help:  "IPv6 address that tunnels end at, beside node.address",
			field: func(c *Config) any { return &c.Node.Address6 }},
		{Name: "node.mtu", Default: 0,
			Help:  "largest packet in bytes that passes between nodes; 0: the MTU of the interface that has node.address",
			field: func(c *Config) any { return &c.Node.MTU }},
		{Name: "dataplane", Default: "auto", check: oneOf("auto", "vpp", "kernel"),
			Help:  "auto, vpp or kernel; auto takes VPP when its socket answers",
			field: func(c *Config) any { return &c.Dataplane }},

		{Name: "grpc.listen", Default: []string{"unix:///run/patchbay/agent.sock"}, check: grpcURL,
			Help:  "where workloads, endpoints and commands reach the agent: unix:///path, and tcp://host:port for other nodes (needs grpc.tls)",
			field: func(c *Config) any { return &c.GRPC.Listen }},
		{Name: "grpc.advertise", Default: "", shown: "the tcp:// of grpc.listen, with node.address where that listens on every address", check: optional(tcpURL),
			Help:  "where agents of other nodes reach this one: tcp://host:port",
			field: func(c *Config) any { return &c.GRPC.Advertise }},
		{Name: "grpc.tls.cert", Default: "", check: optional(path),
			Help:  "certificate of this agent, for its node name, a PEM file; read again when it changes",
			field: func(c *Config) any { return &c.GRPC.TLS.Cert }},
		{Name: "grpc.tls.key", Default: "", check: optional(path),
			Help:  "its key, a PEM file",
			field: func(c *Config) any { return &c.GRPC.TLS.Key }},
		{Name: "grpc.tls.ca", Default: "", check: optional(path),
			Help:  "certificates that the certificates of other nodes must descend from, a PEM file",
			field: func(c *Config) any { return &c.GRPC.TLS.CA }},
		{Name: "grpc.tls.spiffe", Default: "", check: optional(unixURL),
			Help:  "SPIFFE Workload API that gives all of it, and renews it, instead of files: unix:///path",
			field: func(c *Config) any { return &c.GRPC.SPIFFE }},

		{Name: "etcd.endpoints", Default: []string{}, check: etcdURL,
			Help:  "an external etcd: https://host:port, http://host:port or unix:///path; none: the embedded one",
			field: func(c *Config) any { return &c.Etcd.Endpoints }},
		{Name: "etcd.prefix", Default: "/patchbay/v1", check: path,
			Help:  "where all keys stand",
			field: func(c *Config) any { return &c.Etcd.Prefix }},
		{Name: "etcd.tls.cert", Default: "", check: optional(path),
			Help:  "certificate that this agent shows to an external etcd, or that the embedded one serves, a PEM file",
			field: func(c *Config) any { return &c.Etcd.TLS.Cert }},
		{Name: "etcd.tls.key", Default: "", check: optional(path),
			Help:  "its key, a PEM file",
			field: func(c *Config) any { return &c.Etcd.TLS.Key }},
		{Name: "etcd.tls.ca", Default: "", check: optional(path),
			Help:  "certificates that the external etcd's, or the embedded etcd's clients', must descend from, a PEM file",
			field: func(c *Config) any { return &c.Etcd.TLS.CA }},
		{Name: "etcd.username", Default: "",
			Help:  "user of an external etcd",
			field: func(c *Config) any { return &c.Etcd.Username }},
		{Name: "etcd.password", Default: "",
			Help:  "its password; by the file or the environment, there is no flag that other users could read",
			field: func(c *Config) any { return &c.Etcd.Password }},
		{Name: "etcd.insecure", Default: false,
			Help:  "allow TCP without TLS for etcd.listen, and a password over it",
			field: func(c *Config) any { return &c.Etcd.Insecure }},
		{Name: "etcd.listen", Default: "unix:///run/patchbay/etcd.sock", check: optional(etcdURL),
			Help:  "where orchestrators reach the embedded etcd: unix:///path (mode 0600) or https://host:port (needs etcd.tls); empty: nowhere",
			field: func(c *Config) any { return &c.Etcd.Listen }},
		{Name: "etcd.data_dir", Default: "/var/lib/patchbay/etcd", check: path,
			Help:  "where the embedded etcd keeps its data",
			field: func(c *Config) any { return &c.Etcd.DataDir }},

		{Name: "vpp.api_socket", Default: "/run/vpp/api.sock", check: path,
			Help:  "VPP's binary API",
			field: func(c *Config) any { return &c.VPP.APISocket }},
		{Name: "vpp.stats_socket", Default: "/run/vpp/stats.sock", check: path,
			Help:  "VPP's stats segment",
			field: func(c *Config) any { return &c.VPP.StatsSocket }},
		{Name: "vpp.run_dir", Default: "/run/patchbay/vpp", check: path,
			Help:  "where the sockets of workloads are made",
			field: func(c *Config) any { return &c.VPP.RunDir }},
		{Name: "vpp.rx_mode", Default: "adaptive", check: oneOf("polling", "interrupt", "adaptive"),
			Help:  "how VPP waits for packets of memif and vhost-user: polling, interrupt or adaptive; polling where workers have nothing else to do",
			field: func(c *Config) any { return &c.VPP.RxMode }},
		{Name: "vpp.look_every", Default: 30, check: between(0, 86400),
			Help:  "seconds between looks at tags and joins in VPP, which tells nobody when somebody else changes them; 0: only when the agent or VPP has been started",
			field: func(c *Config) any { return &c.VPP.LookEvery }},
		{Name: "vpp.workers", Default: []int{}, check: between(0, maxWorker),
			Help:  "VPP's workers that receive from workloads, as `show threads` numbers them (0 is vpp_wk_0), the least busy first; none: all that VPP has",
			field: func(c *Config) any { return &c.VPP.Workers }},
		{Name: "vpp.queues", Default: 0, check: between(0, maxQueues),
			Help:  "queues in each direction that memif workloads are told to make, so that several workers can receive from them; 0: their own choice",
			field: func(c *Config) any { return &c.VPP.Queues }},
		{Name: "vpp.ring_size", Default: 0, check: ringSize,
			Help:  "entries of each queue that memif workloads are told to make, a power of 2; 0: their own choice",
			field: func(c *Config) any { return &c.VPP.RingSize }},
		{Name: "vpp.buffer_size", Default: 0, check: optionalNumber(256, 16<<10),
			Help:  "bytes of each buffer that memif workloads are told to make; 0: their own choice",
			field: func(c *Config) any { return &c.VPP.BufferSize }},
		{Name: "vpp.max_interfaces", Default: 4096,
			Help:  "interfaces that VPP may have before new connections are refused; 0: any number",
			field: func(c *Config) any { return &c.VPP.Interfaces }},
		{Name: "vpp.max_vhost_user", Default: 32,
			Help:  "vhost-user ports that VPP may have, since each that waits for its peer costs its main thread; 0: any number",
			field: func(c *Config) any { return &c.VPP.VhostPorts }},
		{Name: "vpp.free_buffers", Default: 1024,
			Help:  "packet buffers that must be free in VPP for a new connection",
			field: func(c *Config) any { return &c.VPP.Buffers }},

		{Name: "http.listen", Default: "127.0.0.1:9641", settle: orOff, check: optional(hostPort),
			Help:  "where /metrics, /healthz and /readyz are served; empty or off: nowhere",
			field: func(c *Config) any { return &c.HTTP.Listen }},

		{Name: "log.level", Default: "info", check: oneOf("debug", "info", "warn", "error"),
			Help:  "debug, info, warn or error",
			field: func(c *Config) any { return &c.Log.Level }},
		{Name: "log.format", Default: "text", check: oneOf("text", "json"),
			Help:  "text or json",
			field: func(c *Config) any { return &c.Log.Format }},

		{Name: "mechanisms.prefer", Default: []string{}, check: mechanism,
			Help:  "mechanism types, best first, over the agent's own order of preference",
			field: func(c *Config) any { return &c.Mechanisms.Prefer }},
		{Name: "mechanisms.path", Default: "", check: optional(oneOf("direct", "forwarder")),
			Help:  "path of connections on this node whose network service names none: direct (nothing in between), forwarder (always through VPP); empty: kernel interfaces directly, the rest through VPP",
			field: func(c *Config) any { return &c.Mechanisms.Path }},
		{Name: "kernel.allow_agent_netns", Default: false,
			Help:  "allow connections into the agent's own network namespace",
			field: func(c *Config) any { return &c.Kernel.AllowAgentNetns }},

		{Name: "sriov.pools", Default: []Pool{},
			Help:  "pools of SR-IOV virtual functions, a list of groups of keys: see sriov.md",
			field: func(c *Config) any { return &c.SRIOV.Pools }},
		{Name: "sriov.kubelet", Default: "", check: optional(path),
			Help:  "kubelet's directory of device plugins, /var/lib/kubelet/device-plugins, for pools that Kubernetes counts; empty: it counts none",
			field: func(c *Config) any { return &c.SRIOV.Kubelet }},
		{Name: "sriov.tokens", Default: "/var/lib/patchbay/tokens.json", check: path,
			Help:  "file in which the agent keeps what kubelet gave to pods",
			field: func(c *Config) any { return &c.SRIOV.Tokens }},
		{Name: "sriov.sysfs", Default: "/sys", check: path,
			Help:  "where sysfs is mounted",
			field: func(c *Config) any { return &c.SRIOV.Sysfs }},
		{Name: "sriov.run_dir", Default: "/run/patchbay/sriov", check: path,
			Help:  "where it is noted how a virtual function was before a workload got it; it must not outlive a boot",
			field: func(c *Config) any { return &c.SRIOV.RunDir }},
	}
}

// secret reports whether a key's value must not be shown.
func (k Key) secret() bool {
	_, ok := k.field(&Config{}).(*Secret)
	return ok
}
