package bench_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/bench"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/supabase/keys"
)

// tiny is as little as tells whether it is measured at all.
var tiny = bench.Plan{Round: 500 * time.Millisecond, Rounds: 2, Clients: 3, Long: 260, Counted: 100, Parked: 30, Wakes: 4}

func options(t *testing.T, dsn string) bench.Options {
	t.Helper()
	key, err := keys.NewKey("test")
	if err != nil {
		t.Fatal(err)
	}
	return bench.Options{Plan: tiny, Amber: "test", Config: host.Config{DatabaseURL: dsn, AmberKeys: key,
		CacheDir: filepath.Join(os.TempDir(), fmt.Sprintf("amber-test-cache-%d", os.Getuid()))}}
}

// left counts the rows of each table that may not change by a bench.
func left(t *testing.T, dsn string) map[string]int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `select c.oid::regclass::text from pg_class c
		where relkind = 'r' and relnamespace in ('amber'::regnamespace, 'public'::regnamespace)`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, table := range tables {
		var n int
		if err := conn.QueryRow(t.Context(), `select count(*) from `+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	delete(counts, "amber.keys") // what any host leaves: the name of its key, and the image that its VMs start from
	delete(counts, "amber.images")
	return counts
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestEveryWorkload: each one gives its figures, as many rounds as it should have,
// in numbers that can be, and nothing is left of it.
func TestEveryWorkload(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	before := left(t, dsn)
	r, err := bench.Run(t.Context(), options(t, dsn))
	if err != nil {
		t.Fatal(err)
	}
	if after := left(t, dsn); !maps.Equal(before, after) {
		t.Errorf("rows before %v, after %v", before, after)
	}
	rounds := map[string]int{ // and none has another number than these
		"bare.p50": 2, "bare.p99": 2, "bare.rate": 2, "memory.idle": 1, "memory.parked": 1, "parked.snapshot": 1, "parked.run": 1,
		"call.p50": 2, "call.p99": 2, "long.early": 1, "long.late": 1, "long.ratio": 1, "calls.rate": 2, "task.p50": 2, "task.p99": 2, "tasks.rate": 2,
		"start.p50": 2, "start.p99": 2, "start.rate": 2, "wake.hint.p50": 1, "wake.lost.p50": 1, "wake.run.p50": 1,
		"cost.call.commits": 1, "cost.call.statements": 1, "cost.call.trips": 1, "cost.call.wal": 1,
		"cost.task.commits": 1, "cost.task.statements": 1, "cost.task.trips": 1, "cost.task.wal": 1,
	}
	got := map[string]int{}
	value := map[string]float64{}
	for _, f := range r.Figures {
		got[f.Name], value[f.Name] = len(f.Rounds), f.Value
		if f.Value <= 0 || f.Value < slices.Min(f.Rounds) || f.Value > slices.Max(f.Rounds) || f.What == "" {
			t.Errorf("%+v", f)
		}
	}
	if !maps.Equal(got, rounds) || len(r.Figures) != len(rounds) || len(r.Notes) > 0 {
		t.Errorf("figures %v, want %v; notes %q", got, rounds, r.Notes)
	}
	for _, less := range [][2]string{
		{"call.p50", "call.p99"}, {"task.p50", "task.p99"}, {"start.p50", "start.p99"}, {"bare.p50", "bare.p99"},
		{"cost.call.statements", "cost.task.statements"}, {"cost.call.wal", "cost.task.wal"},
		{"cost.call.trips", "cost.call.statements"}, {"parked.snapshot", "parked.run"},
		{"wake.hint.p50", "wake.run.p50"},
	} {
		if value[less[0]] > value[less[1]] {
			t.Errorf("%s is %g, more than %s: %g", less[0], value[less[0]], less[1], value[less[1]])
		}
	}
	for rate, once := range map[string]string{"bare.rate": "bare.p50", "calls.rate": "call.p50", "tasks.rate": "task.p50", "start.rate": "start.p50"} {
		// As many as there are clients, on a machine that is quiet all the while.
		if busy := value[rate] * value[once] / 1e3; busy < 0.01*float64(tiny.Clients) || busy > 30*float64(tiny.Clients) {
			t.Errorf("%s is %g, and %s %g: %g clients", rate, value[rate], once, value[once], busy)
		}
	}
	if ratio := value["long.late"] / value["long.early"]; value["long.ratio"] != ratio {
		t.Errorf("long.ratio is %g, want %g", value["long.ratio"], ratio)
	}
	// What package stack's tests count to the hundredth, with what a host does by itself.
	for name, want := range map[string]float64{"cost.call.commits": 1, "cost.call.statements": 7, "cost.call.trips": 1,
		"cost.task.commits": 1, "cost.task.statements": 10, "cost.task.trips": 1} {
		if value[name] < 0.9*want || value[name] > 2*want {
			t.Errorf("%s is %g, want %g and a little", name, value[name], want)
		}
	}
	if r.Postgres.Version == "" || r.Postgres.Settings["fsync"] == "" || r.Machine.CPUs == 0 || r.Machine.Go == "" || r.Amber != "test" || r.At.IsZero() {
		t.Errorf("where: %+v %+v", r.Machine, r.Postgres)
	}
}

// TestUsedTables: what runs take in tables that have room already is not told.
func TestUsedTables(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	execute(t, dsn, `insert into task_runs (task_name, status) select 'theirs', 'completed' from generate_series(1, 10000)`)
	o := options(t, dsn)
	o.Only = []string{"parked"}
	r, err := bench.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Figures) != 3 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "measure on an empty database") {
		t.Errorf("%d figures, notes %q", len(r.Figures), r.Notes)
	}
	if n := left(t, dsn)["task_runs"]; n != 10_000 {
		t.Errorf("%d runs of others, want 10000", n)
	}
}

// TestInterrupted: what was made is removed when it is told to stop in the middle.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	before := left(t, dsn)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := options(t, dsn)
	o.Only, o.Plan.Round = []string{"calls"}, time.Hour
	o.Progress = func(string) {
		go func() {
			defer cancel()
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.Background())
			for n := 0; n < 20 && ctx.Err() == nil; {
				if err := conn.QueryRow(ctx, `select count(*) from stack_runs where status = 'completed'`).Scan(&n); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	if r, err := bench.Run(ctx, o); !errors.Is(err, context.Canceled) || len(r.Figures) > 0 {
		t.Errorf("Run: %v, %d figures", err, len(r.Figures))
	}
	if after := left(t, dsn); !maps.Equal(before, after) {
		t.Errorf("rows before %v, after %v", before, after)
	}
}

// TestOneAtATime: two benches would remove each other's runs.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	o := options(t, pgtest.New(t))
	o.BesideOthers, o.Only, o.Plan.Round, o.Plan.Rounds = true, []string{"bare"}, 10*time.Millisecond, 1
	second := errors.New("it was not tried")
	o.Progress = func(string) {
		other := o
		other.Progress = nil
		_, second = bench.Run(t.Context(), other)
	}
	if _, err := bench.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if second == nil || !strings.Contains(second.Error(), "another amber bench measures this database") {
		t.Errorf("the second one: %v", second)
	}
	o.Progress = nil
	if _, err := bench.Run(t.Context(), o); err != nil {
		t.Errorf("one after the other: %v", err)
	}
}

// TestRefusals: databases that others use, or that are not amber's.
func TestRefusals(t *testing.T) {
	t.Parallel()
	used := func(sql string) func(*testing.T) string {
		return func(t *testing.T) string {
			dsn := pgtest.New(t)
			execute(t, dsn, sql)
			return dsn
		}
	}
	for name, test := range map[string]struct {
		database     func(*testing.T) string
		only         string
		besideOthers bool
		want         string // "": it measures
	}{
		"nothing of amber's": {database: func(t *testing.T) string { return pgtest.NewEmpty(t) }, want: "has nothing of amber's"},
		"another host": {database: used(`insert into amber.hosts (id, name, engine, expires_at) values (gen_random_uuid(), 'busy', 'e', now() + interval '1 hour')`),
			want: "is used by other hosts (1: busy, ...): stop them"},
		"a host that is gone": {database: used(`insert into amber.hosts (id, name, engine, expires_at) values (gen_random_uuid(), 'gone', 'e', now() - interval '1 hour')`)},
		"runs":                {database: used(`insert into task_runs (task_name, status) values ('theirs', 'queued')`), want: "has runs that have not ended (1, or more)"},
		"beside others": {database: used(`insert into amber.hosts (id, name, engine, expires_at) values (gen_random_uuid(), 'busy', 'e', now() + interval '1 hour');
			insert into task_runs (task_name, status, scheduled_for) values ('theirs', 'queued', now() + interval '1 hour')`), besideOthers: true},
		"left by a bench that was killed": {database: used(`insert into task_runs (task_name, status) values ('amber-bench-trivial', 'queued')`)},
		"no such workload":                {database: func(t *testing.T) string { return pgtest.New(t) }, only: "everything", want: `there is no workload "everything": there are bare, parked, `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, test.database(t))
			o.BesideOthers, o.Only = test.besideOthers, []string{"start"}
			o.Plan.Round, o.Plan.Rounds = 200*time.Millisecond, 1
			if test.only != "" {
				o.Only = []string{test.only}
			}
			r, err := bench.Run(t.Context(), o)
			switch {
			case test.want == "" && (err != nil || len(r.Figures) != 3):
				t.Errorf("Run: %v, %d figures", err, len(r.Figures))
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Run: %v, want %q", err, test.want)
			}
		})
	}
}
