alter table public.stack_runs add column if not exists waiting_on_stack_run_id uuid references public.stack_runs (id);
