package telemetry

import "github.com/prometheus/client_golang/prometheus"

// gauges are read when somebody looks.
type gauges struct {
	from Sources

	build, bodies, bodiesLimit, calls, callsLimit, atHand, frames *prometheus.Desc
	memory, memoryLimit, vms, vmBytes                             *prometheus.Desc
	connections, connectionsLimit, spans                          *prometheus.Desc
}

func newGauges(from Sources) *gauges {
	desc := prometheus.NewDesc
	return &gauges{from: from,
		build:            desc("amber_build_info", "1, with the version of this build.", []string{"version"}, nil),
		bodies:           desc("amber_bodies", "Tasks that run here or wait for a VM.", nil, nil),
		bodiesLimit:      desc("amber_bodies_limit", "How many there may be (max-bodies).", nil, nil),
		calls:            desc("amber_calls_in_flight", "Calls that are with their services.", nil, nil),
		callsLimit:       desc("amber_calls_in_flight_limit", "How many there may be.", nil, nil),
		atHand:           desc("amber_calls_at_hand", "Calls of services that this host holds, those in flight included.", nil, nil),
		frames:           desc("amber_bodies_at_hand", "Tasks in memory: those that run, and those that wait for calls which run here.", nil, nil),
		memory:           desc("amber_room_bytes", "Memory besides VMs that tasks have here, by what it is for.", []string{"of"}, nil),
		memoryLimit:      desc("amber_room_limit_bytes", "How much there is of it.", []string{"of"}, nil),
		vms:              desc("amber_vms", "VMs that are busy, or idle in the pool.", []string{"state"}, nil),
		vmBytes:          desc("amber_vm_pool_bytes", "Memory of idle VMs.", nil, nil),
		connections:      desc("amber_database_connections", "Connections to the database that are used, or idle in the pool.", []string{"state"}, nil),
		connectionsLimit: desc("amber_database_connections_limit", "How many there may be (pool-size).", nil, nil),
		spans:            desc("amber_spans_total", "Spans of traces: exported, failed (the collector did not take them), dropped (there were too many at once) or unrelated (nobody knows their run any more).", []string{"outcome"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.build, g.bodies, g.bodiesLimit, g.calls, g.callsLimit, g.atHand, g.frames,
		g.memory, g.memoryLimit, g.vms, g.vmBytes, g.connections, g.connectionsLimit, g.spans} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(g.build, 1, version())
	if g.from.Usage != nil {
		u := g.from.Usage()
		gauge(g.bodies, float64(u.Bodies))
		gauge(g.bodiesLimit, float64(u.MostBodies))
		gauge(g.calls, float64(u.Calls))
		gauge(g.callsLimit, float64(u.MostCalls))
		gauge(g.atHand, float64(u.CallsAtHand))
		gauge(g.frames, float64(u.Frames))
		for _, r := range u.Room {
			gauge(g.memory, float64(r.Bytes), r.Of)
			gauge(g.memoryLimit, float64(r.Most), r.Of)
		}
	}
	if g.from.Pool != nil {
		live, idle, memory := g.from.Pool()
		gauge(g.vms, float64(live-idle), "busy")
		gauge(g.vms, float64(idle), "idle")
		gauge(g.vmBytes, float64(memory))
	}
	if g.from.Database != nil {
		used, idle, most := g.from.Database()
		gauge(g.connections, float64(used), "used")
		gauge(g.connections, float64(idle), "idle")
		gauge(g.connectionsLimit, float64(most))
	}
	if t := g.from.Tracer; t != nil {
		for outcome, n := range t.counts() {
			to <- prometheus.MustNewConstMetric(g.spans, prometheus.CounterValue, float64(n), outcome)
		}
	}
}
