// Command faults runs the fault harness: random trees of tasks on real hosts and
// a real Postgres, with everything failing that can be made to, and an auditor's
// report at the end.
//
//	go run ./internal/fault/faults -trees 10000
//
// It needs the source and Go, to build hosts with failpoints. It exits with 1 if
// there are violations, or anything is odd.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/amberhost/amber/internal/fault/harness"
)

func main() {
	var o harness.Options
	flag.IntVar(&o.Trees, "trees", 10_000, "how many trees to play")
	flag.Uint64Var(&o.Seed, "seed", uint64(time.Now().Unix()), "of trees and faults")
	flag.IntVar(&o.Hosts, "hosts", 3, "how many hosts")
	flag.IntVar(&o.Flying, "flying", 40, "how many trees at once")
	flag.DurationVar(&o.Every, "every", 250*time.Millisecond, "time between faults, on average")
	flag.BoolVar(&o.Fsync, "fsync", true, "whether Postgres waits for the disk")
	flag.StringVar(&o.Dir, "dir", "", "directory for everything; it must not be there (default a new one that is removed)")
	flag.Parse()
	if flag.NArg() > 0 || o.Trees < 1 || o.Hosts < 1 || o.Flying < 1 || o.Every <= 0 {
		fmt.Fprintln(os.Stderr, "faults: no arguments, please, and 1 or more of trees, hosts, flying, and time between faults")
		os.Exit(2)
	}
	os.Exit(run(o))
}

func run(o harness.Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "amber-faults-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // Postgres may run as another user
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		o.Dir = dir
	}
	o.Say = os.Stderr
	report, err := harness.Run(ctx, o)
	fmt.Print(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if report.Violations() > 0 || report.Restless > 0 || len(report.Odd) > 0 {
		return 1
	}
	return 0
}
