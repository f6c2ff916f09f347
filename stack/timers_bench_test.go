package stack_test

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/stack"
)

// BenchmarkTimers measures how late timers are: one after another with nothing else
// to do, and many that are due at the same moment, first alone, which gives the rate at
// which runs are resumed, then with other runs meanwhile, whose time is compared with
// what they take before anything is due.
//
// Of many at once, each fires and its run goes on to its end: the last one cannot
// be earlier than all of that takes. AMBER_BENCH_TIMERS says how many; 2,000 if not.
func BenchmarkTimers(b *testing.B) {
	many, err := strconv.Atoi(cmp.Or(os.Getenv("AMBER_BENCH_TIMERS"), "2000"))
	if err != nil {
		b.Fatal(err)
	}
	d := benchDB(b, map[string]string{
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
	for name, others := range map[string]bool{"at once": false, "at once, and others": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				d.exec(`delete from task_runs`)
				at := d.startUntil(p, many)
				var alone, beside []float64
				for time.Until(at) > 200*time.Millisecond {
					alone = append(alone, d.timed(p))
				}
				time.Sleep(time.Until(at))
				for d.count(`select count(*) from (select from task_runs where task_name = 'until' and status <> 'completed' limit 1) open`) > 0 {
					if others {
						beside = append(beside, d.timed(p))
					} else {
						time.Sleep(50 * time.Millisecond)
					}
				}
				late := d.results("until")
				report(b, late, "late")
				report(b, alone, "alone")
				report(b, beside, "beside")
				b.ReportMetric(float64(len(late))/(slices.Max(late)/1000), "resumed/s")
			}
		})
	}
}

// startUntil starts so many runs that sleep until the same moment, which it returns.
func (d *db) startUntil(p *stack.Processor, many int) time.Time {
	d.t.Helper()
	at := time.Now().Add(time.Duration(many)*12*time.Millisecond + 4*time.Second).Truncate(time.Millisecond) // for all to be suspended
	for range many {
		if _, err := p.Start(context.Background(), stack.StartParams{Task: "until", Input: []byte(strconv.FormatInt(at.UnixMilli(), 10))}); err != nil {
			d.t.Fatal(err)
		}
	}
	d.eventually("all sleep", func() bool {
		return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == many
	})
	if time.Until(at) < time.Second {
		d.t.Fatal("this machine is too busy: they did not all sleep a second before they were due")
	}
	return at
}

// results are those of all runs of a task, which are numbers.
func (d *db) results(task string) (all []float64) {
	d.t.Helper()
	rows, err := d.pool.Query(context.Background(), `select (result #>> '{}')::float8 from task_runs where task_name = $1`, task)
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowTo[float64])
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// benchDB is newDB with as many connections as hosts have.
func benchDB(b *testing.B, tasks map[string]string) *db {
	b.Helper()
	d := openDB(b, pgtest.New(b)+"&pool_max_conns=16")
	d.publish(tasks)
	return d
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
