insert into public.task_runs (id, task_name, status, error, logs, vm_logs, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000011', 'hello', 'completed', null, array['a', '{"b": 1}', null], '{}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000012', 'hello', 'failed', 'plain', null, null, '2025-05-01', '2025-05-02');
insert into public.stack_runs (id, service_name, method_name, method_path, status, vm_state, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000031', 'gapi', 'x', '{admin,list}', 'completed', convert_to('{"task_name": "ü", "n": [1]}', 'UTF8'), '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000032', 'gapi', 'x', null, 'failed', decode(repeat('00ff10', 60), 'hex'), '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000033', 'gapi', 'x', null, 'failed', '', '2025-05-01', '2025-05-02');
