package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// triggerNames are the original's triggers: they set updated_at, which amber's
// do, or call the original's processor, which is gone.
var triggerNames = strings.Fields(`
	trigger_update_task_functions_updated_at trigger_update_task_runs_updated_at trigger_update_keystore_updated_at
	trigger_update_stack_runs_updated_at on_keystore_update
	tr_process_stack_run stack_run_insert_trigger stack_run_inserted_trigger stack_runs_after_insert_trigger
	stack_runs_trigger trigger_process_completed_stack_run trigger_process_pending_stack_run
`)

// processorFunctions are what those triggers called. The functions that set
// updated_at are not among them: other tables of a project often use them.
var processorFunctions = strings.Fields(`
	process_next_stack_run process_completed_stack_run process_pending_stack_run process_stack_run
	notify_stack_processor trigger_stack_processor
`)

// keystoreFunctions read and write all secrets, with their owner's rights.
var keystoreFunctions = strings.Fields(`
	get_keystore_value set_keystore_value list_keystore_keys list_keystore_namespaces
`)

// policyNames are the original's policies. What they gave to the service role
// amber's give; what they gave to others besides goes.
var policyNames = []string{
	"Allow full access to service_role on task_functions", "Allow full access to service_role on task_runs",
	"Allow full access to service_role on keystore", "Allow anon read access to task_functions",
	"Service role can do all on task_runs", "Service role can do all on stack_runs", "Service role can do all on keystore",
	"stack_runs_service_role_policy", "Allow service_role full access",
}

func (a *adoption) dropTriggers(ctx context.Context) error {
	triggers, err := collect[struct{ Relname, Name string }](ctx, a.tx, `
		select c.relname, t.tgname as name from pg_trigger t join pg_class c on c.oid = t.tgrelid
		where not t.tgisinternal and c.relnamespace = 'public'::regnamespace and c.relname = any($1)
		order by c.relname, t.tgname`, a.old)
	if err != nil {
		return fmt.Errorf("read triggers: %w", err)
	}
	for _, t := range triggers {
		if !slices.Contains(triggerNames, t.Name) {
			a.report.warn("%s: the trigger %s is kept: it sees amber's rows too", t.Relname, t.Name)
			continue
		}
		if err := a.do(ctx, t.Relname+": the trigger "+t.Name+" is dropped",
			`drop trigger `+quoted(t.Name)+` on public.`+t.Relname); err != nil {
			return err
		}
	}
	return a.dropFunctions(ctx)
}

// dropFunctions drops the processor's, unless something else uses them.
func (a *adoption) dropFunctions(ctx context.Context) error {
	functions, err := collect[struct {
		Signature string
		May       bool
	}](ctx, a.tx, `
		select format('%I.%I()', 'public', proname) as signature, pg_has_role(proowner, 'usage') as may
		from pg_proc p where pronamespace = 'public'::regnamespace and proname = any($1) and prorettype = 'trigger'::regtype
			and not exists (select from pg_depend where refclassid = 'pg_proc'::regclass and refobjid = p.oid)
		order by proname`, processorFunctions)
	if err != nil {
		return fmt.Errorf("read functions: %w", err)
	}
	for _, f := range functions {
		if !f.May {
			a.report.warn("the function %s is kept, since it belongs to another role: nothing calls it any more", f.Signature)
			continue
		}
		if err := a.do(ctx, "the function "+f.Signature+" is dropped", `drop function `+f.Signature); err != nil {
			return err
		}
	}
	return nil
}

func (a *adoption) dropPolicies(ctx context.Context) error {
	policies, err := collect[struct{ Relname, Name, Who, Command string }](ctx, a.tx, `
		select tablename as relname, policyname as name, array_to_string(roles, ', ') as who, lower(cmd) as command
		from pg_policies where schemaname = 'public' and tablename = any($1) order by tablename, policyname`, a.old)
	if err != nil {
		return fmt.Errorf("read policies: %w", err)
	}
	for _, p := range policies {
		if strings.HasPrefix(p.Name, "amber_") {
			continue // the first file replaces them
		}
		if !slices.Contains(policyNames, p.Name) {
			a.report.warn("%s: the policy %q is kept: it lets %s see or change rows (%s) beyond what amber allows", p.Relname, p.Name, p.Who, p.Command)
			continue
		}
		if err := a.do(ctx, fmt.Sprintf("%s: the policy %q is dropped", p.Relname, p.Name),
			`drop policy `+quoted(p.Name)+` on public.`+p.Relname); err != nil {
			return err
		}
	}
	return nil
}

// closeFunctions takes the functions that read every secret from everybody but
// the service role.
func (a *adoption) closeFunctions(ctx context.Context) error {
	functions, err := collect[struct {
		Signature string
		May       bool
	}](ctx, a.tx, `
		select format('public.%I(%s)', proname, pg_get_function_identity_arguments(oid)) as signature, pg_has_role(proowner, 'usage') as may
		from pg_proc where pronamespace = 'public'::regnamespace and proname = any($1) and prosecdef order by proname`, keystoreFunctions)
	if err != nil {
		return fmt.Errorf("read functions: %w", err)
	}
	roles, err := collect[struct{ Name string }](ctx, a.tx, `select rolname as name from pg_roles where rolname in ('anon', 'authenticated', 'service_role')`)
	if err != nil {
		return fmt.Errorf("read roles: %w", err)
	}
	for _, f := range functions {
		if !f.May {
			a.report.warn("the function %s shows every secret to whoever may call it, and belongs to another role: revoke it from anon and public", f.Signature)
			continue
		}
		sql := `revoke execute on function ` + f.Signature + ` from public`
		for _, r := range roles {
			verb := `; revoke execute on function ` + f.Signature + ` from `
			if r.Name == "service_role" {
				verb = `; grant execute on function ` + f.Signature + ` to `
			}
			sql += verb + r.Name
		}
		if err := a.do(ctx, "the function "+f.Signature+": only the service role may call it, since it reads or writes every secret", sql); err != nil {
			return err
		}
	}
	return nil
}
