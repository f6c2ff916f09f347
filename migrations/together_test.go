package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

// sibling opens another connection to the same database.
func sibling(t *testing.T, conn *pgx.Conn, adapt func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	config := conn.Config().Copy()
	if adapt != nil {
		adapt(config)
	}
	other, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	return other
}

func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	for _, files := range []string{"", "a b c f g rows_a rows_stack"} {
		t.Run("on "+files, func(t *testing.T) {
			t.Parallel()
			conn := original(t, files)
			rows := allRows(t, conn)
			const programs = 8
			reports, errs := make([]migrations.Report, programs), make([]error, programs)
			start := make(chan struct{})
			var group sync.WaitGroup
			for i := range programs {
				conn := sibling(t, conn, nil)
				group.Go(func() {
					<-start
					reports[i], errs[i] = migrations.Apply(t.Context(), conn)
				})
			}
			close(start)
			group.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			var applied []string
			adopted := 0
			for _, r := range reports {
				applied = append(applied, r.Files...)
				if len(r.Changes) > 0 {
					adopted++
				}
			}
			slices.Sort(applied)
			if !slices.Equal(applied, migrations.Names()) || (adopted == 1) != (files != "") {
				t.Errorf("applied %q in all, %d adopted; want each of %q once", applied, adopted, migrations.Names())
			}
			if files != "" {
				checkRows(t, conn, rows, 10)
			}
		})
	}
}

// TestThroughAPooler: eight programs share two sessions that change hands after
// each transaction.
func TestThroughAPooler(t *testing.T) {
	t.Parallel()
	direct := original(t, "a b c f g rows_a rows_stack")
	rows := allRows(t, direct)
	pooled := pgtest.Bouncer(t, direct.Config().ConnString(), pgtest.PoolTransactions, 2)
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		conn := connect(t, pooled)
		group.Go(func() {
			_, planErr := migrations.Plan(t.Context(), conn)
			_, err := migrations.Apply(t.Context(), conn)
			errs[i] = errors.Join(planErr, err)
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	checkRows(t, direct, rows, 10)
}

// TestInterrupted kills the session in the middle of an adoption.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	conn := original(t, "a b c f g rows_a rows_stack")
	script(t, conn, `
		create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
		create trigger mine_waits before update on stack_runs for each row execute function wait()`)
	before := state(t, conn)
	victim := sibling(t, conn, nil)
	pid := victim.PgConn().PID()
	ended := make(chan error)
	go func() {
		_, err := migrations.Apply(t.Context(), victim)
		ended <- err
	}()
	// The trigger runs when most of the adoption has been done.
	for column[int](t, conn, `select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'`, pid)[0] == 0 {
		select {
		case err := <-ended:
			t.Fatalf("Apply = %v, and never came to the trigger", err)
		default:
		}
	}
	exec(t, conn, `select pg_terminate_backend($1, 60000)`, pid)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminating connection") {
		t.Errorf("Apply = %v, want the end of its connection", err)
	}
	if d := differences(state(t, conn), before); d != "" {
		t.Errorf("left behind:%s", d)
	}
	script(t, conn, `drop trigger mine_waits on stack_runs; drop function wait()`)
	apply(t, conn)
}

func TestInUse(t *testing.T) {
	t.Parallel()
	conn := original(t, "a b c rows_a rows_stack")
	before := state(t, conn)
	hasty := sibling(t, conn, func(c *pgx.ConnConfig) { c.RuntimeParams["lock_timeout"] = "20ms" })
	exec(t, conn, `begin`)
	exec(t, conn, `select count(*) from stack_runs`)

	_, err := migrations.Apply(t.Context(), hasty)
	holder := fmt.Sprintf("process %d of postgres, since 2", conn.PgConn().PID())
	if !errors.Is(err, migrations.ErrInUse) || !strings.Contains(err.Error(), holder) {
		t.Errorf("Apply = %v, want ErrInUse and %q", err, holder)
	}
	exec(t, conn, `commit`)
	if d := differences(state(t, conn), before); d != "" {
		t.Errorf("left behind:%s", d)
	}
	apply(t, hasty)
}

// TestLockTimeout: a connection's own holds, and where it has none, ours. A
// trigger of the owner's looks.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{"0": "4s", "17s": "17s"} {
		conn := original(t, "a b c rows_a rows_stack")
		script(t, conn, `
			create table seen (setting text);
			create function look() returns trigger language plpgsql as $$ begin insert into seen values (current_setting('lock_timeout')); return new; end $$;
			create trigger mine_looks before update on stack_runs for each row execute function look()`)
		apply(t, sibling(t, conn, func(c *pgx.ConnConfig) { c.RuntimeParams["lock_timeout"] = given }))
		if got := column[string](t, conn, `select distinct setting from seen`); !slices.Equal(got, []string{want}) {
			t.Errorf("of %s, the lock_timeout is %q, want %s", given, got, want)
		}
	}
}

// TestWaitsForItsTurn: the lock that migrations queue on is waited for, however
// short a lock_timeout is.
func TestWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmpty(t))
	hasty := sibling(t, conn, func(c *pgx.ConnConfig) { c.RuntimeParams["lock_timeout"] = "1ms" })
	pid := hasty.PgConn().PID()
	exec(t, conn, `begin`)
	exec(t, conn, `select pg_advisory_xact_lock(x'616d626572'::bigint)`)
	ended := make(chan error)
	go func() {
		_, err := migrations.Apply(t.Context(), hasty)
		ended <- err
	}()
	for column[int](t, conn, `select count(*) from pg_locks where pid = $1 and locktype = 'advisory' and not granted
		and waitstart < clock_timestamp() - interval '20 ms'`, pid)[0] == 0 {
		select {
		case err := <-ended:
			t.Fatalf("Apply = %v, and did not wait", err)
		default:
		}
	}
	exec(t, conn, `rollback`)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLeavesNothingInTheSession: a pooler hands the session to somebody else.
func TestLeavesNothingInTheSession(t *testing.T) {
	t.Parallel()
	conn := original(t, "e rows_e")
	watched := sibling(t, conn, nil)
	const settings = `select name || '=' || setting from pg_settings where source = 'session' and name not like 'amber.%' order by 1`
	session := func() []string {
		rows, err := watched.Query(t.Context(), settings, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := session()
	if _, err := migrations.Plan(t.Context(), watched); err != nil {
		t.Fatal(err)
	}
	apply(t, watched)
	apply(t, watched)
	if after := session(); !slices.Equal(after, before) {
		t.Errorf("settings %q, were %q", after, before)
	}
	for what, query := range map[string]string{
		"prepared statements": `select count(*) from pg_prepared_statements`,
		"locks":               `select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'`,
		"temporary things":    `select count(*) from pg_class where relnamespace = pg_my_temp_schema()`,
	} {
		var n int
		if err := watched.QueryRow(t.Context(), query, pgx.QueryExecModeSimpleProtocol).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d %s are left, %v", n, what, err)
		}
	}
}
