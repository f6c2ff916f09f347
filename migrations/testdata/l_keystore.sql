create table public.keystore (
  id uuid primary key default gen_random_uuid(), name text not null, value text not null, scope text not null default 'global',
  owner_id uuid, created_at timestamptz default now(), updated_at timestamptz default now(), unique (name, scope, owner_id));
create function public.get_keystore_value(p_key_name text, p_namespace text default 'global') returns text
  language sql security definer as $$ select value from public.keystore where name = p_key_name and scope = p_namespace limit 1 $$;
create function public.set_keystore_value(p_key_name text, p_namespace text, p_value text) returns boolean
  language plpgsql security definer as $$
begin
  update public.keystore set value = p_value, updated_at = now() where name = p_key_name and scope = p_namespace;
  if not found then
    insert into public.keystore (name, scope, value) values (p_key_name, p_namespace, p_value);
  end if;
  return true;
end $$;
create function public.list_keystore_keys(p_namespace text default 'global') returns text[]
  language sql security definer as $$ select array_agg(name) from public.keystore where scope = p_namespace $$;
create function public.list_keystore_namespaces() returns text[]
  language sql security definer as $$ select array_agg(distinct scope) from public.keystore $$;
create function public.handle_updated_at() returns trigger language plpgsql as $$
begin new.updated_at = now(); return new; end $$;
create trigger on_keystore_update before update on public.keystore for each row execute function public.handle_updated_at();
insert into public.keystore (name, value, scope, owner_id, created_at, updated_at) values
  ('OPENAI_API_KEY', 'shared', 'global', null, '2025-04-01', '2025-04-01'),
  ('OPENAI_API_KEY', 'of a user', 'global', '00000000-0000-4000-8000-0000000000aa', '2025-04-01', '2025-04-03'),
  ('OTHER', 'older', 'openai', null, '2025-04-01', '2025-04-01'),
  ('OTHER', 'newer', 'openai', null, '2025-04-01', '2025-04-02'),
  ('ALONE', 'value', 'global', null, null, null);
