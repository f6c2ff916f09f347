package stack_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/local"
)

// soakEnv makes TestSoak go on for so many calls, with autovacuum as Postgres has
// it by default: "200000".
const soakEnv = "AMBER_TEST_SOAK"

// soakTasks go on until the service says that it is enough. Those that never end
// before make calls, nested ones, and timers, one after the other.
var soakTasks = map[string]string{
	"small": `module.exports = async ({ n }, { tools }) => { const [a, b] = await Promise.all([tools.soak.more(), tools.soak.more()]); return n }`,
	"calls": `module.exports = async (i, { tools }) => { let n = 0; while (await tools.soak.more()) n++; return n > 0 }`,
	"gives up": `module.exports = async (i, { tools }) => {
		let n = 0, more = true;
		while (more) {
			let clock;
			more = await Promise.race([tools.soak.more(), new Promise((_, reject) => { clock = setTimeout(reject, 60e3) })]);
			clearTimeout(clock); n++;
		}
		return n > 0 }`,
	"nests": `module.exports = async (i, { tools }) => {
		let n = 0; while (await tools.soak.more()) n += await tools.tasks.execute('small', { n: 1 }); return n > 0 }`,
	"fans": `module.exports = async (i, { tools }) => {
		let n = 0; while (await tools.soak.more()) n += (await Promise.all([1, 1, 1, 1].map((n) => tools.tasks.execute('small', { n })))).length; return n > 0 }`,
	"sleeps": `module.exports = async (i, { tools }) => {
		let n = 0; while (await tools.soak.more()) { await tools.sleep(20); setTimeout(() => n++, 5) } return n > 0 }`,
	"holds": `module.exports = async (i, { tools }) => {
		const held = new Map(); for (let i = 0; i < 3000; i++) held.set('name ' + i, { id: i, tags: ['a', 'tag ' + i % 9] });
		let n = 0; while (await tools.soak.more()) { held.get('name ' + n % 3000).id = -n; n++; await tools.sleep(50) } return n > 0 }`,
}

// endless says whether there are more calls to make.
type endless struct{ made, most atomic.Int64 }

func (s *endless) Call(context.Context, service.Call, service.Meta) (json.RawMessage, error) {
	return json.Marshal(s.made.Add(1) < s.most.Load())
}

// inside is what a host says of itself.
type inside struct {
	Goroutines, Connections int
	Heap                    uint64 // bytes in use after a collection
	Made                    int64  // calls so far
}

// playSoak is a host that says how it is at each line that it reads, until it is
// told to leave or nobody listens any more, however long that takes.
func playSoak(ctx context.Context, c child) error {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM)
	defer stop()
	most, err := strconv.Atoi(c.argument)
	if err != nil {
		return err
	}
	s := &endless{}
	s.most.Store(int64(most))
	go func() {
		defer stop()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			_ = json.NewEncoder(os.Stdout).Encode(inside{Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc,
				Connections: int(c.pool.Stat().TotalConns()), Made: s.made.Load()})
		}
	}()
	return c.processor(func(cfg *stack.Config) {
		cfg.Services["soak"], cfg.MaxNested = s, 1<<40
	}).Run(ctx)
}

// soaked is a host under observation.
type soaked struct {
	d    *db
	cmd  *exec.Cmd
	ask  io.Writer
	says *json.Decoder

	explained *db
	plans     *plans
	other     stack.Host // that cannot take what s works for
}

func (d *db) soak(calls int) *soaked {
	d.t.Helper()
	s := &soaked{d: d, cmd: d.command("soak", strconv.Itoa(calls))}
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	s.ask, s.says = in, json.NewDecoder(out)
	s.explained, s.plans = d.explained()
	if s.other, err = d.store.Register(context.Background(), stack.Host{Name: "other", Engines: []string{"other"}}, 24*time.Hour, false); err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (s *soaked) inside() (is inside) {
	s.d.t.Helper()
	_, err := io.WriteString(s.ask, "\n")
	if err == nil {
		err = s.says.Decode(&is)
	}
	if err != nil {
		s.d.t.Fatalf("the host says: %v", err)
	}
	return is
}

// await returns when so many calls have been made.
func (s *soaked) await(calls int) (is inside) {
	s.d.t.Helper()
	for is = s.inside(); is.Made < int64(calls); is = s.inside() {
		time.Sleep(20 * time.Millisecond) // polls another process
	}
	return is
}

// sample is how large everything is at one moment, by what it is.
type sample map[string]float64

// measure is the host's memory, and what the tables take: for each row of those
// that keep what has ended, and as such for those that do not.
func (s *soaked) measure(is inside) sample {
	s.d.t.Helper()
	m := sample{"goroutines": float64(is.Goroutines), "heap": float64(is.Heap), "connections": float64(is.Connections)}
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(s.cmd.Process.Pid)).Output()
	if err != nil {
		s.d.t.Fatal(err)
	}
	if m["RSS, KiB"], err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err != nil {
		s.d.t.Fatal(err)
	}
	rows := map[string]float64{}
	for _, table := range []string{"public.task_runs", "public.stack_runs", "amber.snapshots", "amber.increments", "amber.replies"} {
		rows[table] = float64(s.d.count(`select count(*) from only ` + table))
		size := func(what, sql string) {
			n := float64(s.d.count(sql, table))
			if table == "amber.snapshots" || table == "amber.increments" {
				m[what] = n
			} else {
				m[what+" per row"] = n / rows[table]
			}
		}
		size(table+", bytes", `select pg_table_size($1::regclass)`)
		size(table+", dead rows", `select n_dead_tup from pg_stat_all_tables where relid = $1::regclass`)
	}
	indexes, err := s.d.pool.Query(context.Background(), `
		select i.indrelid::regclass::text, i.indexrelid::regclass::text, pg_relation_size(i.indexrelid)::float8, i.indpred is not null and pg_get_expr(i.indpred, i.indrelid) like '%status%'
		from pg_index i where i.indrelid = any('{public.task_runs, public.stack_runs, amber.snapshots, amber.increments, amber.replies}'::regclass[])`)
	if err != nil {
		s.d.t.Fatal(err)
	}
	defer indexes.Close()
	for indexes.Next() {
		var table, index string
		var bytes float64
		var open bool // it has only what has not ended
		if err := indexes.Scan(&table, &index, &bytes, &open); err != nil {
			s.d.t.Fatal(err)
		}
		if !strings.Contains(table, ".") {
			table = "public." + table
		}
		if open || table == "amber.snapshots" || table == "amber.increments" {
			m["index "+index+", bytes"] = bytes
		} else {
			m["index "+index+", bytes per row"] = bytes / rows[table]
		}
	}
	s.searches(m)
	return m
}

// searches are how many pages the searches of a sweep and of a renewal look at.
func (s *soaked) searches(m sample) {
	s.d.t.Helper()
	ctx, store := context.Background(), s.explained.store
	_, _, err := store.Reap(ctx)
	act := func(_ any, e error) { err = cmp.Or(err, e) }
	act(store.Adopt(ctx, 1000))
	act(store.Claim(ctx, s.other, stack.ClaimAll, 100))
	act(store.UnparkOpenable(ctx, 1000))
	act(store.Timers(ctx, 2*time.Second, 1000))
	act(store.GiveBack(ctx, s.other, []uuid.UUID{}, time.Second))
	act(store.ParkUnopenable(ctx))
	act(store.ParkEngineless(ctx))
	act(store.ParkTooLarge(ctx))
	all, plansErr := s.plans.taken()
	if err = cmp.Or(err, plansErr); err != nil {
		s.d.t.Fatal(err)
	}
	for name, p := range all {
		m["pages of "+name] = float64(p.pages)
	}
}

// vacuumed is a migrated database of a server of its own, on which autovacuum is as
// Postgres has it by default.
func vacuumed(t *testing.T) (dsn string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := local.Config{Dir: pgtest.Dir(t), Port: l.Addr().(*net.TCPAddr).Port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Offline: true,
		Settings: map[string]string{"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "512MB"}}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := local.Start(t.Context(), cfg)
	if err == nil {
		err = s.Stop(context.Background())
	}
	if err == nil {
		pgtest.Plain(t, cfg.Dir) // a superuser may have statements explained
		s, err = local.Start(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) }) // its directory goes too
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := local.Prepare(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return s.URL()
}

// TestSoak: after many calls a host takes as much memory as after few, and the
// tables as much for each row.
func TestSoak(t *testing.T) {
	t.Parallel()
	calls, err := strconv.Atoi(cmp.Or(os.Getenv(soakEnv), "4000"))
	if err != nil {
		t.Fatalf("%s: %v", soakEnv, err)
	}
	long := os.Getenv(soakEnv) != ""
	dsn := ""
	if long {
		dsn = vacuumed(t)
	} else {
		dsn = pgtest.New(t)
	}
	d := openDB(t, dsn)
	d.publish(soakTasks)
	s := d.soak(calls)
	var runs []uuid.UUID
	for range 2 {
		for _, name := range []string{"calls", "gives up", "nests", "fans", "sleeps", "holds"} {
			runs = append(runs, d.enqueue(name, "null"))
		}
	}
	const parts, warmUp = 15, 3 // until the first minute's dead rows are vacuumed, tables grow
	var samples []sample
	for part := 1; part <= parts; part++ {
		is := s.await(calls * part / (parts + 1))
		if !long {
			d.exec(`vacuum public.task_runs, public.stack_runs, amber.snapshots, amber.increments, amber.replies`)
		}
		samples = append(samples, s.measure(is))
		now := samples[part-1]
		t.Logf("%d calls: RSS %.0f MiB, heap %.0f MiB, snapshots %.1f MiB with %.0f dead rows, stack_runs %.0f bytes a row, %.2f dead ones", is.Made,
			now["RSS, KiB"]/1024, now["heap"]/(1<<20), now["amber.snapshots, bytes"]/(1<<20), now["amber.snapshots, dead rows"],
			now["public.stack_runs, bytes per row"], now["public.stack_runs, dead rows per row"])
	}
	s.await(calls)
	for _, id := range runs {
		d.eventually("it has ended", func() bool {
			return d.count(`select count(*) from task_runs where id = $1 and status = 'completed' and result = 'true'`, id) == 1
		})
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
	flat(t, samples[warmUp:])
}

// flat fails the test if something is larger in the second half than in the first,
// by more than what the moment at which it was measured makes of it. What grows from
// the start is 1.9 times as large there.
func flat(t *testing.T, samples []sample) {
	t.Helper()
	for _, what := range slices.Sorted(maps.Keys(samples[0])) {
		var halves [2]float64
		var line []string
		for i, m := range samples {
			halves[2*i/len(samples)] += m[what] / float64(len(samples)/2)
			line = append(line, fmt.Sprintf("%.4g", m[what]))
		}
		t.Logf("%s: %s", what, strings.Join(line, " "))
		if halves[1] > 1.4*halves[0]+moment(what) {
			t.Errorf("%s grows: %.4g in the first half, %.4g in the second", what, halves[0], halves[1])
		}
	}
}

// moment is how much one of these may differ from one moment to the next.
func moment(what string) float64 {
	switch {
	case strings.HasSuffix(what, ", bytes"):
		return 4 * 8192
	case strings.Contains(what, "dead rows per row"):
		return 0.5 // as vacuum comes and goes; what leaks grows in bytes too
	case strings.Contains(what, "dead rows"), strings.HasPrefix(what, "pages of"):
		return 200 // what one minute's vacuum has not come to
	case what == "goroutines":
		return 10
	}
	return 2
}
