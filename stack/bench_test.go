package stack_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/amberhost/amber/stack"
)

// BenchmarkNestedCall measures sequential nested calls in steady state. ns/op
// is the time of whole runs, per call; p50 and p99 are of the time from the
// birth of one call's row to that of the next. Which Postgres it runs on decides
// the figures: the throw-away one of internal/pgtest has fsync off; set
// AMBER_TEST_DATABASE_URL to measure another.
func BenchmarkNestedCall(b *testing.B) {
	for _, c := range []struct{ name, call string }{
		{"service", `tools.echo.value(n)`},
		{"task", `tools.tasks.execute('double', { n })`},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := newDB(b, map[string]string{
				"double": `module.exports = async ({ n }) => n * 2`,
				"loop": `module.exports = async ({ times }, { tools }) => {
					for (let n = 0; n < times; n++) await ` + c.call + `;
					return times }`,
			})
			p, _ := d.host(nil)
			d.run(p, "loop", `{"times":20}`) // warm up
			d.exec(`delete from task_runs`)
			before := d.processorTime()
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := min(100, b.N-done)
				r, err := p.Start(b.Context(), stack.StartParams{Task: "loop", Input: json.RawMessage(fmt.Sprintf(`{"times":%d}`, n))})
				if err != nil {
					b.Fatal(err)
				}
				if r = d.wait(p, r.ID); r.Status != stack.StatusCompleted {
					b.Fatalf("%s %s", r.Status, r.Error)
				}
				done += n
			}
			b.StopTimer()
			d.reportProcessorTime(b, before)
			for name, at := range map[string]float64{"p50-µs/call": 0.5, "p99-µs/call": 0.99} {
				b.ReportMetric(float64(d.count(`
					select coalesce(percentile_disc($1) within group (order by took), 0)::int from (
						select extract(epoch from created_at - lag(created_at) over (partition by parent_stack_run_id order by call_id)) * 1e6 as took
						from stack_runs where call_id is not null) calls`, at)), name)
			}
		})
	}
}

// BenchmarkLargeBody measures sequential calls of a body that holds some 2 MB
// and changes a little of it between them.
func BenchmarkLargeBody(b *testing.B) {
	d := newDB(b, map[string]string{"large": largeTask})
	p, _ := d.host(nil)
	d.run(p, "large", `{"times":20}`) // warm up
	wal := d.count(`select (pg_current_wal_lsn() - '0/0')::bigint`)
	b.ResetTimer()
	d.run(p, "large", fmt.Sprintf(`{"times":%d}`, b.N))
	b.StopTimer()
	b.ReportMetric(float64(d.count(`select (pg_current_wal_lsn() - '0/0')::bigint`)-wal)/float64(b.N), "wal-bytes/call")
}

// largeTask holds some 2 MB, and says how what it holds came out.
const largeTask = `module.exports = async ({ times }, { tools }) => {
	const orders = new Map();
	for (let i = 0; i < 8000; i++) orders.set('order ' + i, { id: i, price: i / 4, tags: ['new', 'tag ' + i % 9] });
	for (let i = 0; i < times; i++) {
		const n = await tools.echo.value(i);
		for (let k = 0; k < 10; k++) orders.get('order ' + (n * 37 + k * 101) % 8000).price = n + k;
	}
	let sum = 0;
	for (const [name, o] of orders) sum += o.price * name.length + o.tags.length;
	return [orders.size, sum];
}`
