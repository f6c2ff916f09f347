package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// recent is how old work that nobody has begun may be for amber to do it: what
// was asked for while the systems changed places. Whatever else the original
// had not ended is ended, since months-old work must not suddenly be done, and
// what was begun cannot be gone on with.
const recent = 10 * time.Minute

// unfinished are the statuses in which runs and calls of the original wait for
// something. What has another, unknown one is left as it is.
var unfinished = strings.Fields(`
	queued pending pending_execution submitted in_progress processing running suspended suspended_waiting_child
	waiting waiting_on_stack_run_id sleeping paused resuming pending_resume ready_to_resume
`)

// finished are those in which they do not.
var finished = strings.Fields(`completed complete failed error cancelled canceled`)

// rows gives rows what amber's have, and ends what was left unfinished.
func (a *adoption) rows(ctx context.Context) error {
	for _, name := range a.old {
		var err error
		switch name {
		case "task_runs":
			err = a.taskRuns(ctx)
		case "stack_runs":
			err = a.stackRuns(ctx)
		case "keystore":
			err = a.keystore(ctx)
		case "task_functions":
			err = a.fill(ctx, name, "empty code", `code = coalesce(code, '')`, `code is null`)
		case "task_locks":
			err = a.unlink(ctx, name, "task_run_id", "task_runs")
		}
		if err == nil {
			err = a.fillTimes(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	return a.endUnfinished(ctx)
}

// fill sets columns of rows that lack them; the report says how many get what.
func (a *adoption) fill(ctx context.Context, table, what, set, where string) error {
	n, err := exec(ctx, a.tx, `update public.`+table+` set `+set+` where `+where)
	if err != nil {
		return fmt.Errorf("fill rows of %s: %w", table, err)
	}
	if n > 0 {
		a.report.changed("%s: %d rows get %s", table, n, what)
	}
	return nil
}

func (a *adoption) fillTimes(ctx context.Context, table string) error {
	var sets, nulls []string
	for c, other := range map[string]string{"created_at": "updated_at", "updated_at": "created_at"} {
		if a.wanted[table].column(c) == nil || a.have[table].column(c).Required {
			continue
		}
		if !a.wanted[table].has(other) {
			other = "null"
		}
		sets = append(sets, c+` = coalesce(`+c+`, `+other+`, now())`)
		nulls = append(nulls, c+` is null`)
	}
	if len(sets) == 0 {
		return nil
	}
	slices.Sort(sets)
	return a.fill(ctx, table, "the times they lacked", strings.Join(sets, ", "), strings.Join(nulls, " or "))
}

// taskRuns fills runs; one generation called two columns otherwise.
func (a *adoption) taskRuns(ctx context.Context) error {
	name, input := `'unknown'`, `input`
	if a.have["task_runs"].has("name") {
		name = `coalesce(name::text, 'unknown')`
	}
	if c := a.have["task_runs"].column("args"); c != nil && c.Type == "jsonb" {
		input = `coalesce(input, args)`
	}
	if err := a.fill(ctx, "task_runs", "their task_name and input", `task_name = `+name+`, input = `+input, `task_name is null`); err != nil {
		return err
	}
	return a.unlink(ctx, "task_runs", "task_function_id", "task_functions")
}

// stackRuns fills calls: each of two pairs of columns is one thing in two spellings.
func (a *adoption) stackRuns(ctx context.Context) error {
	if err := a.fill(ctx, "stack_runs", "the run that parent_run_id names as parent_task_run_id", `parent_task_run_id = parent_run_id`, `parent_task_run_id is null
		and exists (select from public.task_runs t where t.id = stack_runs.parent_run_id)`); err != nil {
		return err
	}
	return a.fill(ctx, "stack_runs", "service_name, module_name and parent_run_id from their other spellings", `service_name = coalesce(service_name, module_name, 'unknown'), module_name = coalesce(module_name, service_name), `+
		`method_name = coalesce(method_name, 'unknown'), parent_run_id = coalesce(parent_run_id, parent_task_run_id, parent_stack_run_id)`,
		`service_name is null or module_name is null or method_name is null
		or parent_run_id is null and coalesce(parent_task_run_id, parent_stack_run_id) is not null`)
}

// keystore brings the two spellings into step, and sets aside what shares its
// name with another key, as keys with an owner could.
func (a *adoption) keystore(ctx context.Context) error {
	const differ = `r.key_name <> coalesce(r.name, r.key_name) or r.key_value <> coalesce(r.value, r.key_value)`
	if n, err := value[int64](ctx, a.tx, `select count(*) from public.keystore r where `+differ); err != nil {
		return err
	} else if n > 0 {
		if err := a.keep(ctx, "keystore", differ, "key_name", "key_value"); err != nil {
			return err
		}
	}
	if err := a.fill(ctx, "keystore", "name, value and scope", `name = coalesce(name, key_name, 'unnamed ' || id), value = coalesce(value, key_value, ''), scope = coalesce(scope, 'global')`,
		`name is null or value is null or scope is null`); err != nil {
		return err
	}
	if err := a.fill(ctx, "keystore", "key_name and key_value as name and value", `key_name = name, key_value = value`,
		`key_name is distinct from name or key_value is distinct from value`); err != nil {
		return err
	}
	return a.twins(ctx)
}

// twins gives keys that share scope and name a scope each, but the one that is
// nobody's, or else the newest.
func (a *adoption) twins(ctx context.Context) error {
	owner := `null::text`
	if a.have["keystore"].has("owner_id") {
		owner = `owner_id::text`
		n, err := value[int64](ctx, a.tx, `select count(*) from public.keystore where owner_id is not null`)
		if err != nil {
			return err
		}
		if n > 0 {
			a.report.warn("keystore: the column owner_id is kept, but amber does not look at it: any task may read these %d keys", n)
		}
	}
	twins := `select id from (select id, row_number() over (partition by scope, name
		order by ` + owner + ` is not null, updated_at desc nulls last, id) n from public.keystore) k where n > 1`
	n, err := value[int64](ctx, a.tx, `select count(*) from (`+twins+`) t`)
	if err != nil || n == 0 {
		return err
	}
	if err := a.keep(ctx, "keystore", `r.id in (`+twins+`)`, "scope"); err != nil {
		return err
	}
	if _, err := exec(ctx, a.tx, `update public.keystore set scope = scope || ':' || coalesce(`+owner+` || ':', '') || id where id in (`+twins+`)`); err != nil {
		return fmt.Errorf("set keys aside: %w", err)
	}
	a.report.changed("keystore: %d keys that shared scope and name with another have a scope of their own; amber.adopted has the old one", n)
	return nil
}

// unlink empties references to rows that are not there, as deleting those rows
// would have done.
func (a *adoption) unlink(ctx context.Context, table, column, to string) error {
	dangling := fmt.Sprintf(`r.%s is not null and not exists (select from public.%s t where t.id = r.%[1]s)`, column, to)
	n, err := value[int64](ctx, a.tx, `select count(*) from public.`+table+` r where `+dangling)
	if err != nil || n == 0 {
		return err
	}
	if err := a.keep(ctx, table, dangling, column); err != nil {
		return err
	}
	if _, err := exec(ctx, a.tx, `update public.`+table+` r set `+column+` = null where `+dangling); err != nil {
		return fmt.Errorf("unlink %s: %w", table, err)
	}
	a.report.changed("%s.%s: %d rows named one of %s that does not exist, and are null now; amber.adopted has what they named", table, column, n, to)
	return nil
}
