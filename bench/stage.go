package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// stage is a database with the tasks in it, and the host that works there, if one does.
type stage struct {
	plan     Plan
	database *host.Database
	config   host.Config
	pool     *pgxpool.Pool // of what looks on; hosts have their own
	sent     *sent         // by hosts
	host     *running      // nil: none
	locked   *pgx.Conn     // keeps other benches away; nil: does not
	changed  bool          // there may be something to remove
	notes    []string
}

// cleanTime is how long it may take to remove what was made.
const cleanTime = 2 * time.Minute

func newStage(ctx context.Context, o Options) (*stage, error) {
	database, err := host.OpenDatabase(ctx, o.Config)
	if err != nil {
		return nil, err
	}
	s := &stage{plan: o.Plan, database: database, sent: &sent{}}
	if err := s.prepare(ctx, o.BesideOthers); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *stage) prepare(ctx context.Context, besideOthers bool) error {
	s.config = configFor(s.database.Config(), s.sent)
	pool, err := s.database.PoolConfig()
	if err != nil {
		return err
	}
	pool.MaxConns = 4
	if s.pool, err = pgxpool.NewWithConfig(ctx, pool); err != nil {
		return fmt.Errorf("open connection pool: %w", err)
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	if s.database.Embedded() {
		_, err = host.Migrate(ctx, s.config, false)
	} else {
		err = s.check(ctx, besideOthers)
	}
	if err != nil {
		return err
	}
	s.changed = true
	if !besideOthers { // one that was killed may have left something
		if err := s.clear(ctx); err != nil {
			return err
		}
	}
	return s.publish(ctx)
}

// configFor has hosts serve this process alone: they listen on loopback, and know
// a key that nobody else has.
func configFor(c host.Config, sent *sent) host.Config {
	c.Listen, c.Port, c.URL, c.TasksDir = "", 0, "", ""
	c.Open, c.Functions, c.ProjectURL, c.MoreKeys = false, nil, "", nil
	c.Keys = keys.Set{SecretKey: "sb_secret_" + rand.Text()}
	c.DrainNotice, c.Supervisor, c.CheckOnly = 0, host.Supervisor{}, true
	c.Services = map[string]service.Service{"amberBench": nothing{}}
	c.Tracer = sent
	return c
}

// benchLock is the advisory lock that one bench at a time has in a database.
const benchLock = 0x616d62656e6368

// lock has other benches refuse the database until this one is closed: each removes
// what is named as its own. A pooler whose sessions outlive it has no such lock.
func (s *stage) lock(ctx context.Context) error {
	if s.config.Pooler == host.PoolerTransaction {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	s.locked = conn.Hijack()
	var ours bool
	if err := s.locked.QueryRow(ctx, `select pg_try_advisory_lock(@lock)`, pgx.StrictNamedArgs{"lock": benchLock}).Scan(&ours); err != nil {
		return fmt.Errorf("lock the database against other benches: %w", err)
	}
	if !ours {
		return errors.New("another amber bench measures this database: wait until it has ended, or take another one")
	}
	return nil
}

// check refuses a database that was given, unless it is one that amber knows, and
// that nobody else uses.
func (s *stage) check(ctx context.Context, besideOthers bool) error {
	name, err := s.database.Name()
	if err != nil {
		return err
	}
	var migrated bool
	if err := s.pool.QueryRow(ctx, `select to_regclass('amber.hosts') is not null`).Scan(&migrated); err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	if !migrated {
		return fmt.Errorf("%s has nothing of amber's, and a bench does not change what it was not made for: `amber migrate` makes the tables, best in a database of its own", name)
	}
	if besideOthers {
		return nil
	}
	var hosts []string
	var runs int
	if err := s.pool.QueryRow(ctx, `
		select coalesce((select array_agg(name order by name) from amber.hosts where expires_at > now()), '{}'),
			(select count(*) from (select from public.task_runs where status in ('queued', 'processing', 'suspended')
				and task_name not like @ours limit 1000) open)`,
		pgx.StrictNamedArgs{"ours": prefix + "%"}).Scan(&hosts, &runs); err != nil {
		return fmt.Errorf("look for others at %s: %w", name, err)
	}
	const anyway = "take a database that nobody uses, or measure beside them with --beside-others, which slows both"
	switch {
	case len(hosts) > 0:
		return fmt.Errorf("%s is used by other hosts (%d: %s, ...): stop them, %s", name, len(hosts), hosts[0], anyway)
	case runs > 0:
		return fmt.Errorf("%s has runs that have not ended (%d, or more), and the bench's host would go on with them: let a host of their own end them, %s", name, runs, anyway)
	}
	return nil
}

// publish stores the tasks.
func (s *stage) publish(ctx context.Context) error {
	store := stack.NewStore(s.pool, nil)
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if _, err := store.Publish(ctx, stack.Task{Name: name, Code: code[name], Description: "of amber bench, which removes it when it is done"}); err != nil {
			return err
		}
	}
	return nil
}

// clear removes all runs of the tasks. It waits for none of them: what runs is dropped.
func (s *stage) clear(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `
		with counted as (delete from amber.nested where root in (select id from public.task_runs where task_name like @ours))
		delete from public.task_runs where task_name like @ours`, pgx.StrictNamedArgs{"ours": prefix + "%"})
	if err != nil {
		return fmt.Errorf("remove runs of the bench: %w", err)
	}
	if !s.database.Embedded() {
		return nil // when dead rows go is its owner's affair
	}
	for _, table := range parkedTables {
		if _, err := s.pool.Exec(ctx, `vacuum analyze `+table); err != nil {
			return fmt.Errorf("vacuum %s: %w", table, err)
		}
	}
	return nil
}

// close stops the host, removes what was made and closes the database.
func (s *stage) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	err := s.stop()
	if s.pool != nil {
		if s.changed && !s.database.Embedded() {
			err = errors.Join(err, s.remove(ctx))
		}
		s.pool.Close()
	}
	if s.locked != nil {
		_ = s.locked.Close(ctx) // which ends the lock
	}
	return errors.Join(err, s.database.Close(ctx))
}

func (s *stage) remove(ctx context.Context) error {
	err := s.clear(ctx)
	_, dropped := s.pool.Exec(ctx, `drop table if exists `+bareTable)
	_, deleted := s.pool.Exec(ctx, `delete from public.task_functions where name like @ours`, pgx.StrictNamedArgs{"ours": prefix + "%"})
	if err = errors.Join(err, dropped, deleted); err != nil {
		return fmt.Errorf("what the bench made is not all removed; the next one tries again: %w", err)
	}
	return nil
}

// running is a host of this process.
type running struct {
	info   host.Info
	cancel context.CancelFunc
	ended  chan error
}

// serve starts a host, unless one works.
func (s *stage) serve(ctx context.Context) error {
	if s.host != nil {
		return nil
	}
	c, ready := s.config, make(chan host.Info, 1)
	c.Ready = func(info host.Info) { ready <- info }
	hosting, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it is stopped in order
	h := &running{cancel: cancel, ended: make(chan error, 1)}
	go func() { h.ended <- host.New(c).Run(hosting) }()
	s.host = h
	select {
	case h.info = <-ready:
		return nil
	case err := <-h.ended:
		s.host = nil
		cancel()
		return fmt.Errorf("start a host: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop stops the host that works, if one does.
func (s *stage) stop() error {
	if s.host == nil {
		return nil
	}
	client.CloseIdleConnections()
	s.host.cancel()
	err := <-s.host.ended
	s.host = nil
	if err != nil {
		return fmt.Errorf("stop the host: %w", err)
	}
	return nil
}

// restart has a new host work.
func (s *stage) restart(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	return s.serve(ctx)
}
