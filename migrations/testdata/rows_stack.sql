set constraints all immediate; -- what is deferred until the end is in the way of an alter table
alter table public.stack_runs disable trigger user;
insert into public.stack_runs (id, parent_task_run_id, service_name, method_name, args, status, result, vm_state, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000031', '00000000-0000-4000-8000-000000000011', 'tasks', 'execute', '["hello", {"n": 1}]', 'completed', '{"r": 1}', '{"task_name": "hello"}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000032', '00000000-0000-4000-8000-000000000012', 'gapi', 'admin.domains.list', '[]', 'failed', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000033', null, 'gapi', 'x', '[]', 'pending', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000034', null, 'gapi', 'x', '[]', 'in_progress', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000035', '00000000-0000-4000-8000-000000000016', 'tasks', 'execute', '["hello"]', 'suspended_waiting_child', null, '{"taskCode": "0"}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000036', '00000000-0000-4000-8000-000000000018', 'tasks', 'execute', '["hello", {}]', 'pending', null, null, now(), now()),
  ('00000000-0000-4000-8000-000000000037', null, 'gapi', 'x', '[]', 'pending', null, null, now(), now()),
  ('00000000-0000-4000-8000-000000000038', '00000000-0000-4000-8000-000000000019', 'tasks', 'execute', '["hello", {}]', 'in_progress', null, null, now(), now()),
  ('00000000-0000-4000-8000-000000000039', '00000000-0000-4000-8000-000000000016', 'gapi', 'x', '[]', 'pending', null, null, now(), now());
update public.stack_runs set parent_stack_run_id = '00000000-0000-4000-8000-000000000035' where id = '00000000-0000-4000-8000-000000000037';
alter table public.stack_runs enable trigger user;
