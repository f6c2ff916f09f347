// Package bench measures amber on a machine and a database: it runs hosts of its
// own there, with tasks and a service that do nothing, and looks at them from
// outside, through HTTP and SQL.
//
//	result, err := bench.Run(ctx, bench.Options{Config: config, Plan: bench.Full})
//
// Every [Figure] is the median of several rounds behind a warm-up. Durations of
// calls and wakes are by the database's clock alone, those of requests and bare
// commits by this process's. What each figure means stands in docs/performance.md.
package bench
