package telemetry

import (
	"net/http"
	"runtime/debug"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// MaxTasks is how many names of tasks a label may have; the others are "other".
const MaxTasks = 100

// Metrics count what a host does. They are safe for concurrent use.
type Metrics struct {
	registry        *prometheus.Registry
	tasks, services *labels

	started, ended, slices, sliceSeconds        *prometheus.CounterVec
	calls, attempts, resumes, claims            *prometheus.CounterVec
	commits, lost                               *prometheus.CounterVec
	leases, snapshotBytes                       prometheus.Counter
	sliceDuration, claimWait                    prometheus.Histogram
	attemptDuration, wake, commitTime, snapshot *prometheus.HistogramVec
}

// Sources are what metrics are made of besides events. Nil ones are left out.
type Sources struct {
	Services []string // that this host has
	Usage    func() stack.Usage
	Pool     func() (live, idle int, memory uint64) // of VMs
	Database func() (used, idle, most int)          // connections
	Depths   Depths
	Tracer   *Tracer
}

// NewMetrics returns the metrics of a host.
func NewMetrics(from Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), tasks: newLabels(MaxTasks),
		services: newLabels(0, append([]string{"tasks", "sleep", "timer"}, from.Services...)...)}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 16) // to 16 s
	m.started = m.counters("amber_runs_started_total", "Runs that were started through this host, nested ones not included.", "task")
	m.ended = m.counters("amber_runs_ended_total", "Runs whose end this host committed. nested says whether another task called it.", "task", "status", "nested")
	m.slices = m.counters("amber_slices_total", "Slices that this host ran and committed: what a task does from one await to the next.", "task")
	m.sliceSeconds = m.counters("amber_slice_seconds_total", "Time that committed slices took, turns of others included.", "task")
	m.resumes = m.counters("amber_resumes_total", "Slices that went on from a snapshot: one that was at hand (memory), or was read (tables).", "from")
	m.calls = m.counters("amber_calls_total", "Calls of tasks whose end this host committed. task is the one that made the call; of a nested task the one that was called; empty for timers.", "service", "task", "status")
	m.attempts = m.counters("amber_attempts_total", "Tries of calls of services and of nested tasks: completed, failed, or retried, which is failed with another to follow.", "service", "outcome")
	m.claims = m.counters("amber_claims_total", "Rows that this host took from the tables.", "service")
	m.commits = m.counters("amber_commits_total", "Transactions of runs and calls: done, lost (somebody else went on with the row), refused (it cannot be stored) or failed (what became of it is not known).", "transition", "outcome")
	m.lost = m.counters("amber_lost_claims_total", "Commits that found that somebody else had gone on with the row, or ended it. What they would have committed was dropped.", "transition")
	m.leases = m.counter("amber_leases_lost_total", "How often this host lost its lease, and with it all that it held.")
	m.snapshotBytes = m.counter("amber_snapshot_bytes_total", "Bytes of the snapshots that were written.")
	m.sliceDuration = m.histogram("amber_slice_duration_seconds", "Time that committed slices took, turns of others included.", seconds)
	m.claimWait = m.histogram("amber_claim_wait_seconds", "How long claimed rows had been free for any host.", seconds)
	m.wake = m.histograms("amber_wake_latency_seconds", "From when a slice could begin (the run was started, a timer was due, a reply was there, a row was free) until it began.", seconds, "of")
	m.attemptDuration = m.histograms("amber_attempt_duration_seconds", "Time that a service took for one try of a call.", seconds, "service")
	m.commitTime = m.histograms("amber_commit_duration_seconds", "Time that transactions took, whatever came of them.", seconds, "transition")
	m.snapshot = m.histograms("amber_snapshot_bytes", "Bytes that a snapshot takes in the tables: whole ones (key) and what changed since the one before (increment).",
		prometheus.ExponentialBuckets(1<<10, 4, 8), "kind")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(newGauges(from))
	if from.Depths != nil {
		m.registry.MustRegister(newDepths(from.Depths))
	}
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce})
}

// scrapesAtOnce is for how many one host makes the text at a time.
const scrapesAtOnce = 4

// Observe counts an event.
func (m *Metrics) Observe(e stack.Event) {
	switch e.Kind {
	case stack.EventStarted:
		m.started.WithLabelValues(m.task(e)).Inc()
	case stack.EventSuspended:
		m.slice(e)
		kind := "key"
		if e.Increment {
			kind = "increment"
		}
		m.snapshot.WithLabelValues(kind).Observe(float64(e.Snapshot))
		m.snapshotBytes.Add(float64(e.Snapshot))
	case stack.EventEnded:
		m.end(e)
	case stack.EventTried:
		m.slice(e)
		m.attempt(e, "retried")
	case stack.EventCommit:
		m.commits.WithLabelValues(e.Transition, e.Outcome).Inc()
		m.commitTime.WithLabelValues(e.Transition).Observe(e.Took.Seconds())
		if e.Outcome == stack.CommitLost {
			m.lost.WithLabelValues(e.Transition).Inc()
		}
	case stack.EventClaimed:
		m.claims.WithLabelValues(m.service(e)).Inc()
		m.claimWait.Observe(e.Took.Seconds())
	case stack.EventLeaseLost:
		m.leases.Inc()
	}
}

// end counts a call, a timer or a body that has ended.
func (m *Metrics) end(e stack.Event) {
	m.slice(e)
	task := m.task(e)
	if e.TaskRun != uuid.Nil {
		nested := "false"
		if e.Parent != uuid.Nil {
			nested = "true"
		}
		m.ended.WithLabelValues(task, e.Status, nested).Inc()
	}
	if e.Parent == uuid.Nil {
		return
	}
	m.calls.WithLabelValues(m.service(e), task, e.Status).Inc()
	if e.Status == stack.StatusCompleted {
		m.attempt(e, "completed")
	} else {
		m.attempt(e, "failed")
	}
}

// attempt counts a try, if somebody was asked.
func (m *Metrics) attempt(e stack.Event, outcome string) {
	if e.Began.IsZero() {
		return
	}
	m.attempts.WithLabelValues(m.service(e), outcome).Inc()
	if e.TaskRun == uuid.Nil {
		m.attemptDuration.WithLabelValues(m.service(e)).Observe(e.At.Sub(e.Began).Seconds())
	}
}

// slice counts the last slice of a body.
func (m *Metrics) slice(e stack.Event) {
	if e.Slice.Began.IsZero() {
		return
	}
	task := m.task(e)
	m.slices.WithLabelValues(task).Inc()
	m.sliceSeconds.WithLabelValues(task).Add(e.Slice.Ran.Seconds())
	m.sliceDuration.Observe(e.Slice.Ran.Seconds())
	of := "resume"
	switch e.Slice.From {
	case stack.FromCode:
		of = "start"
	case stack.FromMemory:
		m.resumes.WithLabelValues("memory").Inc()
	case stack.FromTables:
		m.resumes.WithLabelValues("tables").Inc()
	}
	m.wake.WithLabelValues(of).Observe(e.Slice.Waited.Seconds())
}

// task is the label of the task of an event. Names that nobody has published, of which
// nothing ran, do not take the place of others.
func (m *Metrics) task(e stack.Event) string {
	if e.TaskRun != uuid.Nil && e.Err != nil && e.Err.Code == service.CodeTaskNotFound && e.Slice.Began.IsZero() {
		return other
	}
	return m.tasks.of(e.Task)
}

func (m *Metrics) service(e stack.Event) string { return m.services.of(e.Service) }

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// version is this build's.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
