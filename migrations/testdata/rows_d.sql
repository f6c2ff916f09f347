alter table public.stack_runs disable trigger user;
insert into public.task_runs (id, task_function_id, task_name, status, logs, aggregated_results, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000011', '00000000-0000-4000-8000-0000000000ff', 'hello', 'completed', '["a", {"b": 1}]', '{"x": []}', '2025-05-01', '2025-05-02');
insert into public.stack_runs (id, parent_run_id, module_name, method_name, args, status, child_stack_run_id, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000031', '00000000-0000-4000-8000-000000000011', 'tasks', 'execute', '[1]', 'completed', '00000000-0000-4000-8000-000000000032', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000032', '00000000-0000-4000-8000-000000000031', 'gapi', 'x', null, 'waiting', null, '2025-05-01', '2025-05-02');
alter table public.stack_runs enable trigger user;
