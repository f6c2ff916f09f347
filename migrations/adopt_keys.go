package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// indexNames are the original's indexes. An index on status costs each commit of the engine a write
// to every index of the table.
var indexNames = strings.Fields(`
	idx_task_functions_name idx_keystore_scope_name
	idx_task_runs_status idx_task_runs_created_at idx_task_runs_task_name idx_task_runs_waiting_on_stack_run_id
	idx_stack_runs_status idx_stack_runs_created_at idx_stack_runs_parent_run_id idx_stack_runs_module_method
	idx_stack_runs_parent_task_run_id idx_stack_runs_parent_stack_run_id idx_stack_runs_waiting_on_stack_run_id
	stack_runs_status_idx stack_runs_created_at_idx stack_runs_parent_task_run_id_idx
	stack_runs_parent_stack_run_id_idx stack_runs_waiting_on_stack_run_id_idx
`)

// same tells whether two constraints differ in their names at most.
func (c constraint) same(d constraint) bool {
	return c.Kind == d.Kind && slices.Equal(c.Columns, d.Columns) && c.Refers == d.Refers && c.OnDelete == d.OnDelete && c.Plain == d.Plain
}

// like returns the constraint that is the same as c, nil if there is none.
func (t *table) like(c constraint) *constraint {
	i := slices.IndexFunc(t.constraints, c.same)
	if i < 0 {
		return nil
	}
	return &t.constraints[i]
}

// dropConstraints drops those on columns of ours that our rows would not meet.
// Those that have to do with a column of the owner's are the owner's.
func (a *adoption) dropConstraints(ctx context.Context) error {
	return a.each(func(name string, wanted, have *table) error {
		for _, c := range have.constraints {
			if c.Kind == "p" || wanted.like(c) != nil || c.Name == ownCheck {
				continue
			}
			if !wanted.has(c.Columns...) {
				if c.Kind == "c" || c.Kind == "u" {
					a.report.warn("%s: the constraint %s is kept, %s: amber's own rows may not meet it", name, c.Name, c.Definition)
				}
				continue
			}
			if err := a.do(ctx, fmt.Sprintf("%s: the constraint %s is dropped, %s", name, c.Name, c.Definition),
				`alter table public.`+name+` drop constraint `+quoted(c.Name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *adoption) dropIndexes(ctx context.Context) error {
	return a.each(func(name string, _, have *table) error {
		for _, i := range have.indexes {
			switch {
			case slices.Contains(indexNames, i.Name):
				if err := a.do(ctx, name+": the index "+i.Name+" is dropped", `drop index public.`+quoted(i.Name)); err != nil {
					return err
				}
			case slices.Contains(ownIndexes, i.Name): // as it may be another one of that name
				if err := a.do(ctx, "", `drop index public.`+quoted(i.Name)); err != nil {
					return err
				}
			case i.Unique:
				a.report.warn("%s: the unique index %s is kept: amber's own rows may not meet it", name, i.Name)
			default:
				a.report.warn("%s: the index %s is kept: it makes amber's writes slower", name, i.Name)
			}
		}
		return nil
	})
}

// ownIndexes are those that the files make.
var ownIndexes = strings.Fields(`
	task_runs_parent_run_id task_runs_queued task_runs_created_at task_runs_idempotency_key
	stack_runs_parent_stack_run_id stack_runs_parent_task_run_id stack_runs_child_task_run_id stack_runs_claimable
	stack_runs_sleeping stack_runs_undelivered stack_runs_claimed stack_runs_stuck_key keystore_scope_key_name
	task_runs_unbegun stack_runs_parent_call stack_runs_free stack_runs_stuck stack_runs_deadline
	task_runs_ended stack_runs_alone
`)

// ownCheck is the one constraint that a file makes on a column of its own.
const ownCheck = "retention_is_0_for_ever_or_10_minutes_at_least"

// primaryKeys makes them, and gives those that are there our names.
func (a *adoption) primaryKeys(ctx context.Context) error {
	for _, name := range a.old {
		if !a.wanted[name].has("id") {
			continue
		}
		if err := a.fill(ctx, name, "an id", `id = gen_random_uuid()`, `id is null`); err != nil {
			return err
		}
	}
	return a.constrain(ctx, "p")
}

func (a *adoption) uniqueKeys(ctx context.Context) error  { return a.constrain(ctx, "u") }
func (a *adoption) foreignKeys(ctx context.Context) error { return a.constrain(ctx, "f") }

func (a *adoption) constrain(ctx context.Context, kind string) error {
	return a.each(func(name string, wanted, have *table) error {
		for _, w := range wanted.constraints {
			if w.Kind != kind {
				continue
			}
			what, sql := "", ""
			switch h := have.like(w); {
			case h == nil:
				what = fmt.Sprintf("%s: the constraint %s is added, %s", name, w.Name, inPublic(w.Definition))
				sql = `add constraint ` + quoted(w.Name) + ` ` + inPublic(w.Definition)
			case h.Name != w.Name:
				what = fmt.Sprintf("%s: the constraint %s is called %s", name, h.Name, w.Name)
				sql = `rename constraint ` + quoted(h.Name) + ` to ` + quoted(w.Name)
			default:
				continue
			}
			if err := a.do(ctx, what, `alter table public.`+name+` `+sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// inPublic is a constraint of the model as one of a table in public.
func inPublic(definition string) string {
	return strings.ReplaceAll(definition, " amber.", " public.")
}
