package migrations

import (
	"fmt"
	"strings"
)

// SQL returns the text of all files in the order in which they are applied, as
// one transaction for psql that also records them, so that [Apply] later finds
// nothing to do. It is for an empty database, or one with none of the tables:
// it ends with an error where there are some, since what has to be done to
// those depends on what they are. [Apply] does it, and [Plan] shows it.
func SQL() string {
	var b strings.Builder
	b.WriteString(`-- The schema of amber, for a database that has none of its tables:
--
--   psql -v ON_ERROR_STOP=1 -f <this file> <database>
--
-- as the owner of the database (on Supabase: postgres). It is one transaction.
-- A database with tables of the original system is for "amber migrate".
`)
	names := make([]string, len(tableNames))
	for i, n := range tableNames {
		names[i] = "'" + n + "'"
	}
	fmt.Fprintf(&b, `
begin;
set local client_min_messages = warning;

do $$
declare
  found text;
begin
  perform pg_advisory_xact_lock(%d); -- two who do this at once queue here
  if to_regclass('amber.migrations') is not null then
    raise exception 'this database has a schema of amber: "amber migrate" brings it up to date';
  end if;
  select string_agg(relname, ', ' order by relname) into found from pg_class
  where relnamespace = 'public'::regnamespace and relname in (%s);
  if found is not null then
    raise exception 'this database has the tables %%: "amber migrate" adopts them', found;
  end if;
end $$;

%s`, lockKey, strings.Join(names, ", "), recordTable)
	for _, f := range mustLoad() {
		fmt.Fprintf(&b, "\n-- %s\n\n%s\n%s;\n", f.name, strings.TrimSpace(f.sql), f.insert())
	}
	b.WriteString("\ncommit;\n")
	return b.String()
}
