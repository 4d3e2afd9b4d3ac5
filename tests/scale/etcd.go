package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.patchbay.dev/agent/lab"
)

// etcd is one member on this machine, Debian's, with its data on the disk.
type etcd struct {
	url     string
	process *lab.Process
}

func startEtcd(ctx context.Context, l *lab.Launcher, dir string) (*etcd, error) {
	program, err := lab.FindEtcd()
	if err != nil {
		return nil, err
	}
	client, err1 := freeURL()
	peer, err2 := freeURL()
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("find a free port: %w, %w", err1, err2)
	}
	// It comes before the agents, as if it had a machine of its own; where that is not allowed, nice(1) says so and goes on.
	cmd := exec.Command("nice", "-n", "-10", program, "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer,
		"--auto-compaction-retention", "1m", "--logger", "zap", "--log-outputs", filepath.Join(dir, "etcd.log"))
	e := &etcd{url: client}
	if e.process, err = l.Start("etcd", cmd); err != nil {
		return nil, err
	}
	for {
		if m, err := e.metrics(); err == nil && m["etcd_server_has_leader"] == 1 {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.process.Ended():
			return nil, e.process.Ending()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeURL() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return "http://" + l.Addr().String(), nil
}

// metrics are what etcd counts, by name; what has labels is added up, and stands under
// its name with a method too: name/Put.
func (e *etcd) metrics() (map[string]float64, error) {
	r, err := http.Get(e.url + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	m := map[string]float64{}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(rest, 64)
		if err != nil || strings.HasPrefix(name, "#") {
			continue
		}
		name, labels, labelled := strings.Cut(name, "{")
		m[name] += value
		if _, method, ok := strings.Cut(labels, `grpc_method="`); labelled && ok {
			method, _, _ = strings.Cut(method, `"`)
			m[name+"/"+method] += value
		}
	}
	return m, lines.Err()
}

// load is what etcd did in a time.
type load struct {
	took     time.Duration
	from, to map[string]float64
}

// during measures etcd while do runs.
func (e *etcd) during(do func() error) (*load, error) {
	before, err := e.metrics()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := do(); err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := e.metrics()
	return &load{took, before, after}, err
}

func (l *load) of(name string) float64 { return l.to[name] - l.from[name] }

// Names of etcd's metrics.
const (
	sentBytes     = "etcd_network_client_grpc_sent_bytes_total"
	receivedBytes = "etcd_network_client_grpc_received_bytes_total"
	cpuSeconds    = "process_cpu_seconds_total"
	residentBytes = "process_resident_memory_bytes"
	dbBytes       = "etcd_mvcc_db_total_size_in_use_in_bytes"
	events        = "etcd_debugging_mvcc_events_total"
	watchers      = "etcd_debugging_mvcc_watcher_total"
	keys          = "etcd_debugging_mvcc_keys_total"
	puts          = "etcd_mvcc_put_total"
	deletes       = "etcd_mvcc_delete_total"
	ranges        = "etcd_mvcc_range_total"
	keepalives    = "grpc_server_msg_received_total/LeaseKeepAlive"
)
