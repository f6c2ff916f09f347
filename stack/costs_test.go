package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/internal/failpoint"
	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/local"
)

// sent counts what a pool sends.
type sent struct {
	mu         sync.Mutex
	statements map[string]int // by name, begin and commit among them
	trips      int            // that were waited for: a batch is one
}

func (s *sent) add(sql string, trip bool) {
	name := failpoint.NameOf(sql)
	if name == "" {
		name, _, _ = strings.Cut(sql, " ")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statements[name]++
	if trip {
		s.trips++
	}
}

func (s *sent) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.add(q.SQL, true)
	return ctx
}

func (s *sent) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	return ctx
}

func (s *sent) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	s.add(q.SQL, false)
}

func (*sent) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (*sent) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// taken is what was sent since the last call.
func (s *sent) taken() (statements map[string]int, trips int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	statements, trips = s.statements, s.trips
	s.statements, s.trips = map[string]int{}, 0
	return statements, trips
}

// quietServer is a Postgres that nobody else uses, and that writes what it is told
// to alone: no images of pages, no vacuum.
func quietServer(t *testing.T) (dsn string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := local.Start(t.Context(), local.Config{Dir: pgtest.Dir(t), Port: port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Offline: true,
		Settings: map[string]string{"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "checkpoint_timeout": "1h", "wal_compression": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := local.Prepare(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return server.URL()
}

// costs is what was asked of Postgres.
type costs struct {
	commits, trips, wal int
	statements          map[string]int
}

// meter reads costs.
type meter struct {
	*db
	sent   *sent
	events chan stack.Event
	look   *pgx.Conn // of its own: what it asks is in no count of statements
}

// newMeter has d work on one connection, which is counted: of several, each would
// prepare its statements at another time.
func newMeter(d *db) *meter {
	d.t.Helper()
	m := &meter{db: d, sent: &sent{statements: map[string]int{}}, events: make(chan stack.Event, 10_000)}
	cfg, err := pgxpool.ParseConfig(d.dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	cfg.ConnConfig.Tracer, cfg.MaxConns = m.sent, 1
	stack.UUIDs(cfg)
	stack.PlanOnce(cfg)
	if d.pool, err = pgxpool.NewWithConfig(d.t.Context(), cfg); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.pool.Close)
	d.store = stack.NewStore(d.pool, ring(d.t))
	if m.look, err = pgx.Connect(d.t.Context(), d.dsn); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { m.look.Close(context.Background()) })
	return m
}

// read returns what there was in all by Postgres's counters, and since the last
// call by those of the connection. A session of Postgres keeps counts to itself for
// a while, unless it is asked not to.
func (m *meter) read() (c costs) {
	m.t.Helper()
	ctx := m.t.Context()
	c.statements, c.trips = m.sent.taken()
	if _, err := m.pool.Exec(ctx, `select pg_stat_force_next_flush()`); err != nil {
		m.t.Fatal(err)
	}
	m.sent.taken()
	if err := m.look.QueryRow(ctx, `select xact_commit, pg_current_wal_insert_lsn() - '0/0'
		from pg_stat_database where datname = current_database()`).Scan(&c.commits, &c.wal); err != nil {
		m.t.Fatal(err)
	}
	return c
}

// of returns what a run of so many calls costs. Whoever waits for it hears of its end
// from the host: to look for it in the tables would be counted too.
func (m *meter) of(p *stack.Processor, task string, times int) costs {
	m.t.Helper()
	before := m.read()
	r, err := p.Start(m.t.Context(), stack.StartParams{Task: task, Input: json.RawMessage(fmt.Sprintf(`{"times":%d}`, times))})
	if err != nil {
		m.t.Fatal(err)
	}
	for e := range m.events {
		if e.Kind == stack.EventEnded && e.TaskRun == r.ID {
			break
		}
	}
	c := m.read()
	c.commits, c.wal = c.commits-before.commits, c.wal-before.wal
	wantResult(m.t, m.wait(p, r.ID), strconv.Itoa(times))
	return c
}

// TestCallCosts: what a sequential nested call asks of Postgres does not grow. It is
// the difference between a long run and a short one, so that what comes once for
// each run is not in it. A call is one commit and one round trip, whether it is of a
// service or of a task.
func TestCallCosts(t *testing.T) {
	t.Parallel()
	m := newMeter(openDB(t, quietServer(t)))
	p, _ := m.host(func(c *stack.Config) { // it does nothing by itself meanwhile
		c.Poll, c.Sweep, c.Lease, c.Tidy = true, time.Hour, 3*time.Hour, time.Hour
		c.Observe = func(e stack.Event) { m.events <- e }
	})
	for _, test := range []struct {
		name, call                 string
		commits, statements, trips float64
		wal                        float64 // bytes, as measured on Postgres 15; a fifth more is too much
	}{
		{"service", `tools.echo.value(n)`, 1, 7, 1, 7440},
		{"task", `tools.tasks.execute('double', { n })`, 1, 10, 1, 8950},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &meter{db: m.in(t), sent: m.sent, events: m.events, look: m.look}
			m.publish(map[string]string{
				"double":  `module.exports = async ({ n }) => n * 2`,
				test.name: `module.exports = async ({ times }, { tools }) => { for (let n = 0; n < times; n++) await ` + test.call + `; return times }`,
			})
			m.of(p, test.name, 50)    // the first of all: a key, an image, plans
			const few, more = 20, 200 // with more than 256 a tree would have to be counted in a table
			short, long := m.of(p, test.name, few), m.of(p, test.name, few+more)
			per := func(short, long int) float64 { return float64(long-short) / more }
			statements := 0.
			for _, name := range slices.Sorted(maps.Keys(long.statements)) {
				if n := per(short.statements[name], long.statements[name]); n != 0 {
					statements += n
					t.Logf("%.2f %s", n, name)
				}
			}
			for what, is := range map[string]struct{ got, want, least, most float64 }{
				"commits":     {per(short.commits, long.commits), test.commits, 0.9, 1.05},
				"statements":  {statements, test.statements, 0.9, 1.05},
				"round trips": {per(short.trips, long.trips), test.trips, 0.9, 1.05},
				"WAL bytes":   {per(short.wal, long.wal), test.wal, 0.5, 1.2},
			} {
				t.Logf("%s: %.3f", what, is.got)
				if is.got < is.least*is.want || is.got > is.most*is.want {
					t.Errorf("%s of a call: %.2f, want %g: if it is meant to be so, and worth it, write down what is measured now", what, is.got, is.want)
				}
			}
		})
	}
}
