package stack_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// BenchmarkNestedRate measures how many sequential nested calls per second 32 tasks
// make at once. b.N is the number of calls.
func BenchmarkNestedRate(b *testing.B) {
	const tasks = 32
	for _, c := range []struct{ name, call string }{
		{"service", `tools.echo.value(n)`},
		{"task", `tools.tasks.execute('double', { n })`},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := benchDB(b, map[string]string{
				"double": `module.exports = async ({ n }) => n * 2`,
				"loop": `module.exports = async ({ times }, { tools }) => {
					for (let n = 0; n < times; n++) await ` + c.call + `;
					return times }`,
			})
			p, _ := d.host(nil)
			d.run(p, "loop", `{"times":20}`) // warm up
			before := d.processorTime()
			commits := d.count(`select xact_commit from pg_stat_database where datname = current_database()`)
			wal := d.count(`select (pg_current_wal_lsn() - '0/0')::bigint`)
			b.ResetTimer()
			var all sync.WaitGroup
			for i := range tasks {
				all.Go(func() {
					n := b.N/tasks + min(1, max(0, b.N%tasks-i))
					r, err := p.Start(b.Context(), stack.StartParams{Task: "loop", Input: json.RawMessage(fmt.Sprintf(`{"times":%d}`, n))})
					if err != nil {
						b.Error(err)
						return
					}
					if r = d.wait(p, r.ID); r.Status != stack.StatusCompleted {
						b.Errorf("%s %s", r.Status, r.Error)
					}
				})
			}
			all.Wait()
			b.StopTimer()
			d.reportProcessorTime(b, before)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64(d.count(`select (pg_current_wal_lsn() - '0/0')::bigint`)-wal)/float64(b.N), "wal-bytes/call")
			b.ReportMetric(float64(d.count(`select xact_commit from pg_stat_database where datname = current_database()`)-commits)/float64(b.N), "commits/call")
		})
	}
}

// reportProcessorTime reports what was used since then, per call.
func (d *db) reportProcessorTime(b *testing.B, before [2]time.Duration) {
	after := d.processorTime()
	for i, name := range []string{"host-cpu-µs/call", "postgres-cpu-µs/call"} {
		b.ReportMetric(float64((after[i]-before[i]).Microseconds())/float64(b.N), name)
	}
}

// processorTime is what this process has used, and what the database's server has,
// which runs on this machine.
func (d *db) processorTime() (used [2]time.Duration) {
	d.t.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		d.t.Fatal(err)
	}
	used[0] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	server := parentOf(d.t, d.count(`select pg_backend_pid()`))
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, path := range stats {
		if fields := statOf(path); fields != nil && (fields[1] == server || strings.HasPrefix(path, "/proc/"+server+"/")) {
			for _, i := range []int{11, 12, 13, 14} { // its own, and that of those below it that have ended
				ticks, _ := strconv.Atoi(fields[i])
				used[1] += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
	}
	return used
}

func parentOf(t testing.TB, process int) string {
	fields := statOf(fmt.Sprintf("/proc/%d/stat", process))
	if fields == nil {
		t.Skip("Postgres does not run on this machine, or that is no Linux")
	}
	return fields[1]
}

// statOf are the fields of a process's stat from its state on; nil if it is gone.
func statOf(path string) []string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	_, after, _ := strings.Cut(string(raw), ") ")
	return strings.Fields(after)
}
