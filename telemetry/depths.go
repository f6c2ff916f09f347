package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/amberhost/amber/stack"
)

// Depths counts what is in the tables, in the time that it has: see [stack.Store.Depths].
type Depths func(ctx context.Context, patience time.Duration) (stack.Depths, error)

// The tables are asked when somebody looks, at most once in depthsEvery, and for as
// long as depthsPatience.
const (
	depthsEvery    = 5 * time.Second
	depthsPatience = time.Second
)

// depths collects what is in the tables. That the database does not answer is told,
// and is no reason to lack all else.
type depths struct {
	count Depths

	mu     sync.Mutex
	asked  time.Time
	last   stack.Depths
	failed bool
	fails  float64

	up, failures, hosts                  *prometheus.Desc
	queued, parked, stuck, sleeping, due *prometheus.Desc
}

func newDepths(count Depths) *depths {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &depths{count: count,
		up:       desc("amber_database_up", "1 if the database has answered when it was last asked what is in the tables, else 0; then amber_queue_depth and the like are missing."),
		failures: desc("amber_database_failures_total", "How often it has not, or not in time."),
		hosts:    desc("amber_hosts", "Hosts of this database that have a lease."),
		queued:   desc("amber_queue_depth", "Rows that any host may claim: runs, calls, tasks that go on. Of all hosts, counted up to 10,000."),
		parked:   desc("amber_parked_runs", "Tasks that wait and have a snapshot in the tables. Of all hosts, counted up to 10,000; beyond that it is what Postgres's statistics say."),
		stuck:    desc("amber_stuck_runs", "Tasks and calls that wait for somebody to do something about them: their stuck_reason says what. Of all hosts, counted up to 10,000."),
		sleeping: desc("amber_sleeping_rows", "Timers, runs that begin later, and calls between two tries. Of all hosts, counted up to 10,000."),
		due:      desc("amber_due_rows", "Those of amber_sleeping_rows that should sleep no more."),
	}
}

// Describe implements [prometheus.Collector].
func (d *depths) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{d.up, d.failures, d.hosts, d.queued, d.parked, d.stuck, d.sleeping, d.due} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (d *depths) Collect(to chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked.IsZero() || time.Since(d.asked) >= depthsEvery {
		d.ask()
	}
	gauge := func(desc *prometheus.Desc, v int) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v))
	}
	to <- prometheus.MustNewConstMetric(d.failures, prometheus.CounterValue, d.fails)
	if d.failed {
		gauge(d.up, 0)
		return
	}
	gauge(d.up, 1)
	gauge(d.hosts, d.last.Hosts)
	gauge(d.queued, d.last.Queued)
	gauge(d.parked, d.last.Parked)
	gauge(d.stuck, d.last.Stuck)
	gauge(d.sleeping, d.last.Sleeping)
	gauge(d.due, d.last.Due)
}

// ask asks the database. d.mu is held: whoever looks meanwhile has the same answer.
func (d *depths) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), depthsPatience+depthsPatience/2) // it gives up by itself, if it is there
	defer cancel()
	last, err := d.count(ctx, depthsPatience)
	d.last, d.failed, d.asked = last, err != nil, time.Now()
	if err != nil {
		d.fails++
	}
}
