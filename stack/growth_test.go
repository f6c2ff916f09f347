package stack_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/stack"
)

// grownEnv is how many runs that wait, and how many that have ended, BenchmarkGrowth
// fills the tables with: "1000000 10000000".
const grownEnv = "AMBER_TEST_GROWN"

// BenchmarkGrowth fills the tables with runs that sleep and with runs that have ended,
// and prints what each takes of all tables and indexes together, and how long claims
// and nested calls take beside them and beside empty tables. Which Postgres it runs on
// decides the figures, as for BenchmarkNestedCall.
func BenchmarkGrowth(b *testing.B) {
	var parked, ended int
	if _, err := fmt.Sscan(cmp.Or(os.Getenv(grownEnv), "100000 100000"), &parked, &ended); err != nil {
		b.Fatalf("%s: want two numbers, of runs that wait and that have ended: %v", grownEnv, err)
	}
	tasks := map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"loop":   `module.exports = async (times, { tools }) => { for (let n = 0; n < times; n++) await tools.tasks.execute('double', { n }) }`,
	}
	empty, full := newDB(b, parkedTasks), newDB(b, parkedTasks)
	for _, d := range []*db{empty, full} {
		d.publish(tasks)
	}
	for _, s := range []struct {
		task, unit string
		copies     int
	}{{"sleeper", "B/parked", parked}, {"pair", "B/ended", ended}} {
		before := full.tableSizes()
		full.multiply(s.task, s.copies)
		sum := 0
		for _, table := range full.tableSizes() {
			grown := table.Bytes - sizeOf(before, table.Name)
			if grown/s.copies > 0 {
				b.Logf("%s: %d bytes for each run of %s", table.Name, grown/s.copies, s.task)
			}
			sum += grown
		}
		b.ReportMetric(float64(sum)/float64(s.copies), s.unit)
	}
	names := []string{"empty", "full"}
	claims := map[string][]time.Duration{}
	sides := []*side{empty.side(), full.side()}
	for range 300 {
		for i, s := range sides {
			s.run = s.enqueue("pair", "null")
			begun := time.Now()
			taken, err := s.store.Claim(b.Context(), s.host, stack.ClaimAll, 100)
			claims[names[i]] = append(claims[names[i]], time.Since(begun))
			if err != nil || len(taken) != 1 {
				b.Fatalf("claimed %d: %v", len(taken), err)
			}
			if _, err := s.store.Complete(b.Context(), s.host, stack.Ending{ID: taken[0].ID, TaskRun: s.run, Slice: stack.Slice{Held: true}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i, d := range []*db{empty, full} {
		b.ReportMetric(float64(middle(claims[names[i]]).Microseconds()), "µs/claim-"+names[i])
		b.ReportMetric(float64(d.callTime().Microseconds()), "µs/call-"+names[i])
	}
	full.exec(`delete from task_runs where task_name = 'loop'`)
	full.exec(`update task_runs set ended_at = ended_at - interval '8 days' where status = 'completed'`)
	full.exec(`update amber.removal set since = '-infinity'`)
	rows, begun := 0, time.Now()
	for range 50 {
		full.exec(`update amber.removal set next_at = now()`)
		did, err := full.store.RemoveEnded(b.Context(), week, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		rows += did.Rows
	}
	b.ReportMetric(float64(time.Since(begun).Microseconds())/float64(rows), "µs/removed-row")
	left := func() int {
		return full.count(`select count(*) from task_runs where task_name = 'pair' and status = 'completed'`)
	}
	before := left()
	_, stop := full.host(func(c *stack.Config) { c.Remove = time.Millisecond })
	busy := full.callTime()
	stop()
	if gone := before - left(); gone == 0 || gone == before {
		b.Logf("%d of %d runs were removed meanwhile: what is measured beside it is not the whole", gone, before)
	}
	b.ReportMetric(float64(busy.Microseconds()), "µs/call-removing")
	b.ReportMetric(0, "ns/op")
}

// callTime is how long one nested call takes of a task that makes them in sequence.
func (d *db) callTime() time.Duration {
	d.t.Helper()
	const each = 50
	p, stop := d.host(func(c *stack.Config) { c.Sweep, c.Remove = time.Second, time.Hour })
	defer stop()
	var took []time.Duration
	for range 10 {
		begun := time.Now()
		if r := d.run(p, "loop", fmt.Sprint(each)); r.Status != stack.StatusCompleted {
			d.t.Fatalf("%s %s", r.Status, r.Error)
		}
		took = append(took, time.Since(begun)/each)
	}
	return middle(took)
}

// multiply makes so many runs of a task, as copies of one that a host ran until it
// ended or slept.
func (d *db) multiply(task string, copies int) {
	d.t.Helper()
	p, stop := d.host(nil)
	r, err := p.Start(d.t.Context(), stack.StartParams{Task: task})
	if err != nil {
		d.t.Fatal(err)
	}
	d.eventually("it has come to rest", func() bool {
		return d.count(`select count(*) from stack_runs where parent_task_run_id = $1 and status in ('completed', 'sleeping')`, r.ID) > 0 &&
			d.count(`select count(*) from stack_runs where parent_task_run_id = $1 and status = 'processing'`, r.ID) == 0
	})
	stop()
	d.exec(`create table shapes as select $1::uuid as root, $2::int as copies`, r.ID, copies)
	d.copyShapes("%I")
	d.exec(`drop table shapes`)
	d.exec(`vacuum analyze`)
}

// tableSize is how many bytes a table and its indexes have.
type tableSize struct {
	Name  string
	Bytes int
}

func sizeOf(all []tableSize, name string) int {
	if i := slices.IndexFunc(all, func(s tableSize) bool { return s.Name == name }); i >= 0 {
		return all[i].Bytes
	}
	return 0
}

// tableSizes are those of all tables.
func (d *db) tableSizes() []tableSize {
	d.t.Helper()
	rows, err := d.pool.Query(d.t.Context(), `
		select c.relname, pg_total_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname in ('public', 'amber') and c.relkind = 'r' order by 2 desc`)
	if err != nil {
		d.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableSize])
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// middle is the middle one of some times.
func middle(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
