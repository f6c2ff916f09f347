package stack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// BenchmarkNestedCall measures one sequential nested call in steady state, seen
// from outside: the time of a run with b.N calls, per call. Which Postgres it
// runs on decides the figure: the throw-away one of internal/pgtest has fsync
// off; set AMBER_TEST_DATABASE_URL to measure another.
func BenchmarkNestedCall(b *testing.B) {
	for _, c := range []struct{ name, call string }{
		{"service", `tools.echo.value(n)`},
		{"task", `tools.tasks.execute('double', { n })`},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := newDB(b, map[string]string{
				"double": `module.exports = async ({ n }) => n * 2`,
				"loop": `module.exports = async ({ times }, { tools }) => { const took = [];
					for (let n = 0; n < times; n++) { const t = Date.now(); await ` + c.call + `; took.push(Date.now() - t) } return took.length }`,
			})
			p, _ := d.host(nil)
			d.run(p, "loop", `{"times":20}`) // warm up
			var took []float64
			b.ResetTimer()
			for done := 0; done < b.N; {
				n := min(100, b.N-done)
				start := time.Now()
				r, err := p.Start(b.Context(), stack.StartParams{Task: "loop", Input: json.RawMessage(fmt.Sprintf(`{"times":%d}`, n))})
				if err != nil {
					b.Fatal(err)
				}
				if r = d.wait(p, r.ID); r.Status != stack.StatusCompleted {
					b.Fatalf("%s %s", r.Status, r.Error)
				}
				took = append(took, float64(time.Since(start).Microseconds())/float64(n))
				done += n
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "p50-µs/call")
		})
	}
}
