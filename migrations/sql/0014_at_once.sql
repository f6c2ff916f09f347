-- A transaction that goes out in one piece, its commit included, has to end itself
-- when it may not be committed: nobody looks at what its statements gave before that.

-- stop raises an error of that SQLSTATE: AMB01 the row is held by somebody else, or
-- gone; AMB02 there is more to do than the transaction does; AMB03 an id is taken.
create or replace function amber.stop(code text) returns text language plpgsql set search_path = '' as $$
begin
  raise exception using errcode = code, message = case code when 'AMB01' then 'the claim is lost' when 'AMB02' then 'there is more to do' else 'the id is taken' end,
    hint = 'amber expects this: it drops the work, or does it in another way.';
end $$;
revoke execute on function amber.stop(text) from public;
