package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// kinds are what a name can belong to besides a table.
var kinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table",
	"S": "a sequence", "c": "a type",
}

// suitable refuses what is not a table that we may alter.
func suitable(relations []relation) error {
	var faults []string
	for _, r := range relations {
		switch kind := kinds[r.Kind]; {
		case r.Kind != "r":
			faults = append(faults, fmt.Sprintf("public.%s is %s, and amber needs a table of that name: rename it", r.Name, kind))
		case r.Inherits:
			faults = append(faults, fmt.Sprintf("public.%s is partitioned or inherits, which amber's table does not: rename it", r.Name))
		case !r.May:
			faults = append(faults, fmt.Sprintf("public.%s belongs to the role %s, and %s may not alter it: migrate as %s, or alter table public.%s owner to %s",
				r.Name, r.Owner, r.Me, r.Owner, r.Name, r.Me))
		}
	}
	return refuse(ErrUnsuitable, faults)
}

// refuse makes one error of all that is wrong, nil if nothing is.
func refuse(reason error, faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w; nothing was changed: %s", reason, strings.Join(faults, "; "))
}

// marks are the columns by which a table of the original is known; of those
// with a stroke between them it has one.
var marks = map[string][]string{
	"task_functions":    {"name", "code"},
	"task_runs":         {"task_name|name", "status"},
	"stack_runs":        {"service_name|module_name", "method_name", "status"},
	"keystore":          {"name|key_name", "value|key_value"},
	"config_parameters": {"name", "value"},
	"task_locks":        {"task_run_id"},
}

// check refuses tables that only share a name with ours, and those that cannot
// be changed to ours without loss. All that is wrong is said at once.
func (a *adoption) check(ctx context.Context) error {
	if err := a.checkIDs(ctx); err != nil {
		return err
	}
	var faults []string
	_ = a.each(func(name string, wanted, have *table) error {
		for _, mark := range marks[name] {
			if !slices.ContainsFunc(strings.Split(mark, "|"), func(c string) bool { return have.column(c) != nil }) {
				faults = append(faults, fmt.Sprintf("public.%s has no column %s, so it is not the table of that name that amber knows: rename it, or move it to another schema",
					name, strings.ReplaceAll(mark, "|", " or ")))
			}
		}
		for _, h := range have.columns {
			w := wanted.column(h.Name)
			if w == nil {
				continue
			}
			if _, ok := conversion(h, *w); !ok {
				faults = append(faults, fmt.Sprintf("the column %s of public.%s is of the type %s, and amber's is %s: convert it, or rename the column",
					h.Name, name, h.Type, w.Type))
			}
			if h.Generated {
				faults = append(faults, fmt.Sprintf("the column %s of public.%s is computed from others, and amber writes it: alter table public.%s alter column %s drop expression",
					h.Name, name, name, h.Name))
			}
		}
		if key := have.primaryKey(); key != nil && !slices.Equal(key.Columns, wanted.primaryKey().Columns) {
			faults = append(faults, fmt.Sprintf("the primary key of public.%s is (%s), and amber's is (%s): drop it first, with what refers to it",
				name, strings.Join(key.Columns, ", "), strings.Join(wanted.primaryKey().Columns, ", ")))
		}
		return nil
	})
	return refuse(ErrUnsuitable, faults)
}

func (t *table) primaryKey() *constraint {
	i := slices.IndexFunc(t.constraints, func(c constraint) bool { return c.Kind == "p" })
	if i < 0 {
		return nil
	}
	return &t.constraints[i]
}

// checkIDs refuses tables whose rows are numbered.
func (a *adoption) checkIDs(ctx context.Context) error {
	var found []string
	err := a.each(func(name string, wanted, have *table) error {
		for _, h := range have.columns {
			w := wanted.column(h.Name)
			if w == nil || w.Type != "uuid" || !slices.Contains([]string{"smallint", "integer", "bigint"}, h.Type) {
				continue
			}
			rows, err := value[int64](ctx, a.tx, `select count(*) from public.`+name)
			if err != nil {
				return fmt.Errorf("count rows: %w", err)
			}
			found = append(found, fmt.Sprintf("%s.%s is %s (%d rows)", name, h.Name, h.Type, rows))
			return nil // one column of each table will do
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		return err
	}
	return fmt.Errorf("%w; nothing was changed: %s. Give amber another database, or put these tables aside with all that is in them:\n%s"+
		"\nMigrate then, which makes new tables, and copy what they should have:\n%s",
		ErrIntegerIDs, strings.Join(found, ", "), a.aside(), a.copies())
}

// aside is SQL that moves the tables out of the way.
func (a *adoption) aside() string {
	var b strings.Builder
	b.WriteString("  create schema tasker;")
	for _, name := range a.old {
		fmt.Fprintf(&b, "\n  alter table public.%s set schema tasker;", name)
	}
	return b.String()
}

// copies is SQL that copies tasks and keys back.
func (a *adoption) copies() string {
	var b []string
	if t := a.have["task_functions"]; t != nil && t.has("name", "code", "description") {
		b = append(b, "  insert into public.task_functions (name, code, description) select name, code, description from tasker.task_functions;")
	}
	switch t := a.have["keystore"]; {
	case t == nil:
	case t.has("scope", "name", "value"):
		b = append(b, "  insert into public.keystore (scope, name, value) select scope, name, value from tasker.keystore;")
	case t.has("key_name", "key_value"):
		b = append(b, "  insert into public.keystore (name, value) select key_name, coalesce(key_value, '') from tasker.keystore;")
	}
	return strings.Join(b, "\n")
}
