package stack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// BenchmarkFair measures how long trivial runs take, one after another, alone and
// while one run with thousands of calls is at work: nested tasks that call a service,
// or that begin later, all at once, or calls of a service.
//
// AMBER_BENCH_WIDE says how many calls; 10,000 if not. Each case runs once, however
// large b.N is.
func BenchmarkFair(b *testing.B) {
	n := cmp.Or(os.Getenv("AMBER_BENCH_WIDE"), "10000")
	calls, err := strconv.Atoi(n)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, task string
		hosts      int
	}{{"nested", "wide", 1}, {"nested on two hosts", "wide", 2}, {"delayed", "delayed", 1}, {"calls", "calls", 1}, {"calls on two hosts", "calls", 2}} {
		b.Run(c.name, func(b *testing.B) {
			d := benchDB(b, fairTasks)
			s := new(counted)
			var p *stack.Processor
			for range c.hosts {
				p, _ = d.host(func(cfg *stack.Config) { cfg.Sweep, cfg.Services["counted"] = 0, s }) // as hosts have it
			}
			var alone, beside []float64
			for range 200 {
				alone = append(alone, d.timed(p))
			}
			began := time.Now()
			wide, err := p.Start(context.Background(), stack.StartParams{Task: c.task, Input: json.RawMessage(n)})
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan stack.Run, 1)
			go func() {
				r, _ := p.Wait(context.Background(), wide.ID)
				ended <- r
			}()
			for !wide.Ended() {
				select {
				case wide = <-ended:
				default:
					beside = append(beside, d.timed(p))
				}
			}
			wantResult(b, wide, n)
			b.ReportMetric(float64(calls)/time.Since(began).Seconds(), "calls/s")
			report(b, alone, "alone")
			report(b, beside, "beside")
		})
	}
}
