insert into public.keystore (id, scope, key_name, key_value, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000021', 'global', 'GAPI_KEY', 'v', '2025-05-01', null);
