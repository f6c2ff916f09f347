insert into public.task_functions (id, name, code, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000001', 'hello', 'module.exports = () => 1', '2025-05-01 10:00:00.123456+00', '2025-05-02');
insert into public.task_runs (id, task_name, input, status, result, error, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000011', 'hello', '{"n": 1.50, "s": "ü\\n"}', 'completed', '[1, 2.0]', null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000012', 'hello', null, 'failed', null, '{"message": "boom"}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000013', 'hello', 'null', 'error', null, '"text"', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000014', 'hello', '{}', 'queued', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000015', 'hello', '{}', 'processing', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000016', 'hello', '{}', 'suspended', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000017', 'hello', '{}', 'archived by hand', null, null, '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000018', 'hello', '{}', 'queued', null, null, now(), now()),
  ('00000000-0000-4000-8000-000000000019', 'hello', '{}', 'queued', null, null, now(), now());
update public.task_runs set task_function_id = '00000000-0000-4000-8000-000000000001' where status = 'completed';
insert into public.keystore (id, name, value, scope, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000021', 'GAPI_KEY', '{"k": 1}', 'global', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000022', 'GAPI_KEY', '', 'other', '2025-05-01', '2025-05-02');
