package migrations

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Adoption: a database may have tables of the original system, in any of a
// dozen dialects. Before the first file is applied, in its transaction, they
// are made what that file would have made: columns are added, types converted,
// defaults, keys and indexes put right, and triggers, policies and indexes of
// the original dropped, by their names. Rows are kept, and so is what the
// owner of the database added: columns, and triggers, policies and indexes of
// other names, which are named in the report.
//
// What the tables should be is read off the first file itself: its tables are
// made once more, empty, in schema amber, and compared with those that are there.
//
// What changes the meaning of a row is written down in amber.adopted first:
// the row's table, its id, and the columns as they were.

// tableStatement is a statement of the first file that makes a public table.
var tableStatement = regexp.MustCompile(`(?ms)^create table if not exists public\.\w+ \(.*?\n\)[^;]*;`)

// adoption is one run of adopt.
type adoption struct {
	tx     pgx.Tx
	report *Report
	wanted map[string]*table
	have   map[string]*table
	old    []string // names of the tables that were there
	kept   bool     // amber.adopted is there
}

// adopt changes the tables that are there, if any, to what first is about to make.
func adopt(ctx context.Context, tx pgx.Tx, first file, report *Report) error {
	a := &adoption{tx: tx, report: report}
	relations, err := readRelations(ctx, tx)
	if err != nil {
		return fmt.Errorf("look for tables: %w", err)
	}
	if len(relations) == 0 {
		return nil
	}
	if err := suitable(relations); err != nil {
		return err
	}
	for _, r := range relations {
		a.old = append(a.old, r.Name)
	}
	if _, err := exec(ctx, tx, `lock table only public.`+strings.Join(a.old, `, only public.`)+` in access exclusive mode`); err != nil {
		return fmt.Errorf("lock the tables: %w", err)
	}
	if err := a.read(ctx, first); err != nil {
		return err
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return a.open(ctx, relations) },
		a.dropTriggers, a.dropPolicies, a.closeFunctions, a.dropConstraints, a.dropIndexes,
		a.columns, a.primaryKeys, a.makeMissing(first), a.rows, a.require, a.uniqueKeys, a.foreignKeys,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read learns what the tables are and what they should be.
func (a *adoption) read(ctx context.Context, first file) (err error) {
	statements := tableStatement.FindAllString(first.sql, -1)
	if len(statements) != len(tableNames) {
		return fmt.Errorf("%d of %d tables found in %s", len(statements), len(tableNames), first.name)
	}
	model := strings.ReplaceAll(strings.Join(statements, "\n"), "public.", "amber.")
	if _, err := exec(ctx, a.tx, model); err != nil {
		return fmt.Errorf("make the model: %w", err)
	}
	if a.wanted, err = readTables(ctx, a.tx, "amber"); err != nil {
		return fmt.Errorf("read the model: %w", err)
	}
	if _, err := exec(ctx, a.tx, `drop table amber.`+strings.Join(tableNames, `, amber.`)); err != nil {
		return fmt.Errorf("drop the model: %w", err)
	}
	if a.have, err = readTables(ctx, a.tx, "public"); err != nil {
		return fmt.Errorf("read the tables: %w", err)
	}
	return nil
}

// makeMissing makes the tables that are not there, so that rows can be looked
// up in all of them.
func (a *adoption) makeMissing(first file) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := exec(ctx, a.tx, strings.Join(tableStatement.FindAllString(first.sql, -1), "\n"))
		return err
	}
}

// do runs one statement and says in the report what for, unless that is "".
func (a *adoption) do(ctx context.Context, what, sql string) error {
	if _, err := exec(ctx, a.tx, sql); err != nil {
		if what == "" {
			what = sql
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if what != "" {
		a.report.changed("%s", what)
	}
	return nil
}

// open switches on what guards rows and off what would keep amber from its own.
func (a *adoption) open(ctx context.Context, relations []relation) error {
	for _, r := range relations {
		name := "public." + r.Name
		if !r.Shielded {
			what := r.Name + ": row level security is switched on"
			if err := a.do(ctx, what, `alter table `+name+` enable row level security`); err != nil {
				return err
			}
		}
		if r.Forced {
			what := r.Name + ": row level security no longer holds for the table's owner, as which amber works"
			if err := a.do(ctx, what, `alter table `+name+` no force row level security`); err != nil {
				return err
			}
		}
		if r.Public {
			what := r.Name + ": privileges of everybody (public) are revoked"
			if err := a.do(ctx, what, `revoke all on `+name+` from public`); err != nil {
				return err
			}
		}
		if r.Temporary {
			if err := a.do(ctx, r.Name+": is logged from now on, and so survives a crash", `alter table `+name+` set logged`); err != nil {
				return err
			}
		}
		for _, option := range a.wanted[r.Name].options {
			if !slices.Contains(r.Options, option) {
				if err := a.do(ctx, "", `alter table `+name+` set (`+option+`)`); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// keep writes rows down in amber.adopted as they are: the given columns of
// those that a condition selects.
func (a *adoption) keep(ctx context.Context, table, condition string, columns ...string) error {
	if !a.kept {
		a.kept = true
		if _, err := exec(ctx, a.tx, `
			create table if not exists amber.adopted (
			  table_name text not null,
			  row_id     text not null,
			  original   jsonb not null, -- columns as they were before amber changed them
			  adopted_at timestamptz not null default now()
			);
			alter table amber.adopted enable row level security`); err != nil {
			return fmt.Errorf("create amber.adopted: %w", err)
		}
	}
	pairs := make([]string, len(columns))
	for i, c := range columns {
		pairs[i] = fmt.Sprintf("'%s', r.%s", c, quoted(c))
	}
	_, err := exec(ctx, a.tx, fmt.Sprintf(`insert into amber.adopted (table_name, row_id, original)
		select '%s', r.id::text, jsonb_build_object(%s) from public.%s r where %s`,
		table, strings.Join(pairs, ", "), table, condition))
	if err != nil {
		return fmt.Errorf("write %s down in amber.adopted: %w", table, err)
	}
	return nil
}

// quoted is a name as SQL writes it.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// each calls f for every table that was there, with what it should be and is.
func (a *adoption) each(f func(name string, wanted, have *table) error) error {
	for _, name := range a.old {
		if err := f(name, a.wanted[name], a.have[name]); err != nil {
			return err
		}
	}
	return nil
}

// counts writes what a map counts: "2 processing, 1 suspended".
func counts(m map[string]int64) string {
	var b []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = append(b, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(b, ", ")
}
