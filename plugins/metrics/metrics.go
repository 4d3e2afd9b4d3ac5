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
	// Found once: to find them by their labels each time takes longer than to count, and a request makes a dozen calls.
	methods, operations, outcomes sync.Map
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
	found(&m.methods, [2]string{method, code.String()}, func(l [2]string) timed {
		return timed{m.requests.WithLabelValues(l[:]...), m.durations.WithLabelValues(l[0])}
	}).took(took)
}

// Negotiation counts the outcome of a negotiation for one mechanism.
func (m *Metrics) Negotiation(mechanism, outcome string) {
	found(&m.outcomes, [2]string{mechanism, outcome}, func(l [2]string) prometheus.Counter { return m.negotiations.WithLabelValues(l[:]...) }).Inc()
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

// call counts one operation on the dataplane.
func (m *Metrics) call(name, result string, took time.Duration) {
	found(&m.operations, [2]string{name, result}, func(l [2]string) timed {
		return timed{m.calls.WithLabelValues(l[:]...), m.callTimes.WithLabelValues(l[0])}
	}).took(took)
}

// timed are the metrics of what is counted by its result, and timed.
type timed struct {
	count prometheus.Counter
	times prometheus.Observer
}

func (t timed) took(d time.Duration) {
	t.count.Inc()
	t.times.Observe(d.Seconds())
}

// found is what was made for these labels, of those that are known.
func found[T any](known *sync.Map, labels [2]string, made func(labels [2]string) T) T {
	v, ok := known.Load(labels)
	if !ok {
		v, _ = known.LoadOrStore(labels, made(labels))
	}
	return v.(T)
}
