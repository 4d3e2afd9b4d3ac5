// Package metrics exports to Prometheus what the agent does and what its connections
// carry. What exists is read at the scrape, from memory and from the dataplane; nothing
// is polled.
package metrics

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"go.patchbay.dev/plugins/reconcile"
)

// Metrics counts events as they happen; Collect adds what is read at the scrape.
type Metrics struct {
	registry     *prometheus.Registry
	requests     *prometheus.CounterVec
	durations    *prometheus.HistogramVec
	negotiations *prometheus.CounterVec
	applies      prometheus.Histogram
	calls        *prometheus.CounterVec
	callTimes    *prometheus.HistogramVec
	operations   sync.Map // operation by call and result
}

// Buckets in seconds: from what a call costs to what a client waits.
var (
	requestBuckets = prometheus.ExponentialBucketsRange(0.001, 30, 14)
	applyBuckets   = prometheus.ExponentialBucketsRange(0.0001, 10, 14)
)

// New makes the metrics of an agent.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_requests_total", Help: "Requests of NSM clients by method and gRPC code."},
			[]string{"method", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "patchbay_request_duration_seconds", Help: "Time from a request of an NSM client to its reply.",
			Buckets: requestBuckets}, []string{"method"}),
		negotiations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_negotiations_total", Help: "Negotiations by the client's mechanism and their outcome."},
			[]string{"mechanism", "outcome"}),
		applies: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "patchbay_apply_duration_seconds", Help: "Time of one operation on one value.", Buckets: applyBuckets}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "patchbay_dataplane_calls_total", Help: "Operations on the dataplane by kind and result."},
			[]string{"call", "result"}),
		callTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "patchbay_dataplane_call_duration_seconds", Help: "Time of one operation on the dataplane.",
			Buckets: applyBuckets}, []string{"call"}),
	}
	m.registry.MustRegister(m.requests, m.durations, m.negotiations, m.applies, m.calls, m.callTimes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Request counts a request of an NSM client.
func (m *Metrics) Request(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(method, code.String()).Inc()
	m.durations.WithLabelValues(method).Observe(took.Seconds())
}

// Negotiation counts the outcome of a negotiation for one mechanism.
func (m *Metrics) Negotiation(mechanism, outcome string) {
	m.negotiations.WithLabelValues(mechanism, outcome).Inc()
}

// Applied counts one operation of the engine.
func (m *Metrics) Applied(c reconcile.Call) {
	m.applies.Observe(c.Took.Seconds())
	result := "ok"
	if errors.Is(c.Err, reconcile.ErrRecreate) {
		result = "recreate"
	} else if c.Err != nil {
		result = "error"
	}
	m.call(c.Operation+" "+c.Kind, result, c.Took)
}

// DataplaneCall counts one message to VPP that was answered, or was not.
func (m *Metrics) DataplaneCall(message string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.call(message, result, took)
}

// operation are the metrics of one call on the dataplane with one result. A request makes a dozen
// calls: to find these by their labels each time takes longer than to count.
type operation struct {
	count prometheus.Counter
	times prometheus.Observer
}

// call counts one operation on the dataplane.
func (m *Metrics) call(name, result string, took time.Duration) {
	key := [2]string{name, result}
	o, ok := m.operations.Load(key)
	if !ok {
		o, _ = m.operations.LoadOrStore(key, operation{m.calls.WithLabelValues(name, result), m.callTimes.WithLabelValues(name)})
	}
	o.(operation).count.Inc()
	o.(operation).times.Observe(took.Seconds())
}
