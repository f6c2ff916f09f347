-- What a Supabase project has before anyone adds to it, for a plain database.
-- Each thing is made only where it is missing. Run within one transaction.
do $prepare$
declare
  caller  text;
  callers constant text[] := array['anon', 'authenticated', 'service_role'];
  role    record;
begin
  -- A Supabase database: all of this is there, or is for its services to make.
  if exists (select from pg_roles where rolname = 'supabase_admin') then
    return;
  end if;

  -- Two sessions that grant on one schema at once fail; they queue here.
  perform pg_advisory_xact_lock(hashtextextended('amber prepare', 0));

  -- Roles belong to the whole cluster, so others may make them at this moment,
  -- in another database: whoever comes second finds them made.
  for role in
    values ('anon', 'nologin'), ('authenticated', 'nologin'),
           ('service_role', 'nologin bypassrls'), ('authenticator', 'login noinherit')
  loop
    if exists (select from pg_roles where rolname = role.column1) then
      continue;
    end if;
    begin
      execute format('create role %I %s', role.column1, role.column2);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;

  foreach caller in array callers loop
    if not pg_has_role('authenticator', caller, 'member') then
      begin
        execute format('grant %I to authenticator', caller);
      exception when unique_violation or internal_error then null; -- granted at this moment
      end;
    end if;
  end loop;

  create schema if not exists auth;
  create schema if not exists extensions;
  foreach caller in array callers loop
    execute format('grant usage on schema public, auth, extensions to %I', caller);
  end loop;

  -- A caller's claims: one setting each from old gateways, all as JSON from new ones.
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable as $$
      select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
    $$;
  end if;
  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text language sql stable as $$
      select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
    $$;
  end if;
  if to_regprocedure('auth.email()') is null then
    create function auth.email() returns text language sql stable as $$
      select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email')
    $$;
  end if;
  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb language sql stable as $$
      select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), ''))::jsonb
    $$;
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$prepare$;
