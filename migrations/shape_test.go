package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shapeSQL is all that the tables in public are but their rows, a line each:
// what it is about, in the first word, and what there is. The second word is
// the column, if it is about one.
const shapeSQL = `
with t as (select * from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'p'))
select concat_ws(' ', 'column', t.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
	'default ' || pg_get_expr(d.adbin, d.adrelid), a.attacl::text)
from t join pg_attribute a on a.attrelid = t.oid left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
where a.attnum > 0 and not a.attisdropped
union all
select concat_ws(' ', 'table', relname, 'kind', relkind, 'row security', relrowsecurity, relforcerowsecurity, reloptions::text,
	relpersistence, 'owner', pg_get_userbyid(relowner), relacl::text) from t
union all
select concat_ws(' ', 'constraint', t.relname, conname, pg_get_constraintdef(c.oid), convalidated) from t join pg_constraint c on c.conrelid = t.oid
where contype <> 'n'
union all
select concat_ws(' ', 'index', pg_get_indexdef(indexrelid)) from t join pg_index on indrelid = t.oid
union all
select concat_ws(' ', 'trigger', pg_get_triggerdef(g.oid), tgenabled) from t join pg_trigger g on g.tgrelid = t.oid where not tgisinternal
union all
select concat_ws(' ', 'policy', tablename, policyname, roles::text, cmd, qual, with_check) from pg_policies where schemaname = 'public'
union all
select concat_ws(' ', 'published', pubname, tablename) from pg_publication_tables where schemaname = 'public'
order by 1`

// shape is what the tables of a database are.
func shape(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return column[string](t, conn, shapeSQL)
}

// state is all that there is in a database: to see that nothing changed.
func state(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	all := append(shape(t, conn), column[string](t, conn, `select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp' order by 1`)...)
	all = append(all, column[string](t, conn, `select concat_ws(' ', 'function', oid::regprocedure, md5(prosrc), proacl::text)
		from pg_proc where pronamespace = 'public'::regnamespace order by 1`)...)
	for _, table := range column[string](t, conn, publicTables) {
		for _, row := range rowsOf(t, conn, table) {
			all = append(all, "row "+table+" "+row)
		}
	}
	return all
}

// rowsOf returns a table's rows as JSON texts.
func rowsOf(t *testing.T, conn *pgx.Conn, table string) []string {
	t.Helper()
	return column[string](t, conn, `select to_jsonb(r)::text from public.`+pgx.Identifier{table}.Sanitize()+` r order by 1`)
}

// differences are the lines that only one of two lists has.
func differences(got, want []string) string {
	var b strings.Builder
	for _, line := range got {
		if !slices.Contains(want, line) {
			b.WriteString("\n+ " + line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			b.WriteString("\n- " + line)
		}
	}
	return b.String()
}
