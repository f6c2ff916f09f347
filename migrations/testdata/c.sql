create table public.config_parameters (name text primary key, value text);
insert into public.config_parameters values ('supabase_anon_key', 'a public key');
