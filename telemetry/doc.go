// Package telemetry makes metrics and traces of what a host does: of the events of
// package stack, and of what it is asked when somebody looks. [Metrics] are served in
// Prometheus's format, a [Tracer] sends spans to a collector of OpenTelemetry's. Neither
// ever waits for anybody, and nothing depends on them.
//
// A run's trace has the run's own id, and the span of a call or a body an id that is
// part of its stack_run's: so each host can name the parents of what it writes, days
// later and without asking. A span is written when what it describes has ended.
package telemetry
