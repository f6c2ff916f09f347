package stack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/telemetry"
)

// BenchmarkObserved measures what metrics and traces cost: processor time of this
// process for each nested call, of which nobody hears, of which metrics are made, and
// traces too. The collector of the traces is in this process; it reads what it gets and
// does nothing with it.
func BenchmarkObserved(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	for _, call := range []struct{ name, code string }{{"service", `tools.echo.value(n)`}, {"task", `tools.tasks.execute('double', { n })`}} {
		d := newDB(b, map[string]string{
			"double": `module.exports = async ({ n }) => n * 2`,
			"loop":   `module.exports = async ({ times }, { tools }) => { for (let n = 0; n < times; n++) await ` + call.code + `; return times }`,
		})
		for _, by := range []string{"nobody", "metrics", "traces"} {
			b.Run(call.name+"/"+by, func(b *testing.B) {
				d := d.in(b)
				var observe func(stack.Event)
				metrics := telemetry.NewMetrics(telemetry.Sources{Services: []string{"echo"}})
				switch by {
				case "metrics":
					observe = metrics.Observe
				case "traces":
					tracer, err := telemetry.NewTracer(b.Context(), telemetry.Traces{Endpoint: collector.URL}, "bench", d.store.Roots, slog.New(slog.DiscardHandler))
					if err != nil {
						b.Fatal(err)
					}
					defer tracer.Close(b.Context())
					observe = func(e stack.Event) { metrics.Observe(e); tracer.Observe(e) }
				}
				p, stop := d.host(func(c *stack.Config) { c.Observe = observe })
				defer stop()
				d.run(p, "loop", `{"times":20}`) // warm up
				b.ResetTimer()
				before := processTime()
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
				b.ReportMetric(float64((processTime()-before).Microseconds())/float64(b.N), "cpu-µs/call")
			})
		}
	}
}

// processTime is the processor time that this process has had, the system's for it included.
func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
