package stack_test

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// BenchmarkTimers measures how late timers are: one after another with nothing else
// to do, and many that are due at the same moment, with other runs meanwhile.
//
// Of many at once, each fires and its run goes on to its end: the last one cannot
// be earlier than all of that takes. AMBER_BENCH_TIMERS says how many; 2,000 if not.
func BenchmarkTimers(b *testing.B) {
	many, err := strconv.Atoi(cmp.Or(os.Getenv("AMBER_BENCH_TIMERS"), "2000"))
	if err != nil {
		b.Fatal(err)
	}
	d := newDB(b, map[string]string{
		"one":     `module.exports = async (ms, { tools }) => { const t = Date.now(); await tools.sleep(ms); return Date.now() - t - ms }`,
		"until":   `module.exports = async (at, { tools }) => { await tools.sleep(at - Date.now()); return Date.now() - at }`,
		"trivial": `module.exports = async (i, { tools }) => await tools.echo.value(i)`,
	})
	p, _ := d.host(func(c *stack.Config) { c.Sweep = 0 }) // as hosts have it
	b.Run("at rest", func(b *testing.B) {
		var late []float64
		for b.Loop() {
			r := d.run(p, "one", "30")
			ms, _ := strconv.ParseFloat(string(r.Result), 64)
			late = append(late, ms)
		}
		report(b, late, "late")
	})
	b.Run("others alone", func(b *testing.B) {
		var took []float64
		for b.Loop() {
			took = append(took, d.timed(p))
		}
		report(b, took, "other")
	})
	b.Run("at once", func(b *testing.B) {
		for b.Loop() {
			lead := time.Duration(many) * 8 * time.Millisecond // for all to be suspended
			at := time.Now().Add(lead)
			for range many {
				if _, err := p.Start(context.Background(), stack.StartParams{Task: "until", Input: []byte(strconv.FormatInt(at.UnixMilli(), 10))}); err != nil {
					b.Fatal(err)
				}
			}
			if time.Now().After(at) {
				b.Fatal("they were not all started before they were due")
			}
			time.Sleep(time.Until(at))
			var took []float64
			for d.count(`select count(*) from task_runs where task_name = 'until' and status <> 'completed'`) > 0 {
				took = append(took, d.timed(p))
			}
			rows, err := d.pool.Query(b.Context(), `select (result #>> '{}')::float8 from task_runs where task_name = 'until' order by created_at`)
			if err != nil {
				b.Fatal(err)
			}
			var late []float64
			for rows.Next() {
				var ms float64
				_ = rows.Scan(&ms)
				late = append(late, ms)
			}
			report(b, late, "late")
			report(b, took, "other")
			b.ReportMetric(float64(len(late))/(slices.Max(late)/1000), "resumed/s")
		}
	})
}

// timed is how long a trivial run takes, in milliseconds.
func (d *db) timed(p *stack.Processor) float64 {
	began := time.Now()
	d.run(p, "trivial", "1")
	return float64(time.Since(began).Microseconds()) / 1000
}

func report(b *testing.B, ms []float64, what string) {
	if len(ms) == 0 {
		return
	}
	slices.Sort(ms)
	b.ReportMetric(ms[len(ms)/2], "ms-"+what+"-p50")
	b.ReportMetric(ms[len(ms)*99/100], "ms-"+what+"-p99")
	b.ReportMetric(ms[len(ms)-1], "ms-"+what+"-max")
	if ms[0] < 0 {
		b.Errorf("%s: %v ms early", what, -ms[0])
	}
}
