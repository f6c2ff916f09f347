package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/fault/ledger"
	"github.com/amberhost/amber/internal/fault/trees"
)

// Config is what an audit judges by. All of it is optional, but what is left
// out is not judged.
type Config struct {
	Trees   []trees.Tree   // that were played
	Entries []ledger.Entry // of the ledger, in order
	// Secrets are what no column may hold, by a name to report them under: keys
	// as raw bytes, passwords, tokens. Each is 8 bytes at least.
	Secrets map[string][]byte
	// Rest says that all has come to rest: no host has anything left to do. I4 is
	// judged then alone.
	Rest bool
	// Cancelled are trees that somebody asked to end; true: and was told that they will.
	Cancelled map[string]bool
	Below     map[string]map[string]bool // by tree: paths of bodies below its root that somebody asked to end
	Timed     map[string]bool            // trees whose root has only so much time
	// Results are exact results of root runs, as a client got them, by tree.
	Results map[string]json.RawMessage
}

// Querier reads: a connection, a pool or a transaction of pgx. While hosts work
// it should be a transaction that is repeatable read, or else what was read
// later will not fit what was read before.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Audit judges a database that has had its history since [Install]. It writes
// nothing. An error means that it could not look, not that it found something.
func Audit(ctx context.Context, db Querier, cfg Config) (Report, error) {
	a := &auditor{db: db, cfg: cfg}
	a.report.Rest = cfg.Rest
	for _, step := range []func(context.Context) error{
		a.count,
		func(ctx context.Context) error { return a.run(ctx, checks) },
		func(ctx context.Context) error { return a.run(ctx, callChecks) },
		func(ctx context.Context) error {
			if !cfg.Rest {
				return nil
			}
			return a.run(ctx, restChecks)
		},
		a.effects,
		a.played,
		a.secrets,
	} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("audit: %w", err)
		}
	}
	slices.SortStableFunc(a.report.Violations, func(x, y Violation) int { return cmp.Compare(x.Promise, y.Promise) })
	return a.report, nil
}

type auditor struct {
	db     Querier
	cfg    Config
	report Report
	rows   map[string]*asked // rows of calls of the ledger, by id
}

// most bounds one side of a violation, in bytes.
const most = 600

func (a *auditor) found(promise int, check, id, want, got string) {
	a.report.Violations = append(a.report.Violations, Violation{Promise: promise, Check: check, ID: clip(id), Want: clip(want), Got: clip(got)})
}

func clip(text string) string {
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

func (a *auditor) count(ctx context.Context) error {
	var installed bool
	if err := a.one(ctx, `select to_regclass('fault.history') is not null`, &installed); err != nil {
		return err
	}
	if !installed {
		return errors.New("the database has no history: call Install before hosts start")
	}
	r := &a.report
	r.Trees, r.Effects = len(a.cfg.Trees), len(a.cfg.Entries)
	for _, e := range a.cfg.Entries {
		if e.Repeat() {
			r.Repeated++
		}
	}
	return a.one(ctx, `select (select count(*) from public.task_runs), (select count(call_id) from public.stack_runs),
		(select count(*) from fault.history)`, &r.Runs, &r.Calls, &r.Changes)
}

// one reads the one row of a query.
func (a *auditor) one(ctx context.Context, sql string, to ...any) error {
	rows, err := a.db.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, to, func() error { return nil })
	return err
}
