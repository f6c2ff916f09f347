package bench

import "time"

// Plan is how much is measured.
type Plan struct {
	Round   time.Duration `json:"round_ns"` // how long one takes
	Rounds  int           `json:"rounds"`
	Clients int           `json:"clients"` // tasks, requests or connections where there are many at once
	Long    int           `json:"long"`    // calls of the long task
	Counted int           `json:"counted"` // calls whose commits, statements and WAL are counted
	Parked  int           `json:"parked"`  // runs that wait while the host's memory is measured
	Wakes   int           `json:"wakes"`   // rows of each kind that others insert
}

// The plans.
var (
	Full  = Plan{Round: 5 * time.Second, Rounds: 3, Clients: 32, Long: 10_000, Counted: 2000, Parked: 10_000, Wakes: 100}
	Quick = Plan{Round: time.Second, Rounds: 1, Clients: 32, Long: 1000, Counted: 300, Parked: 1000, Wakes: 20}
)
