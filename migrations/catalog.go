package migrations

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// tableNames are the tables in schema public, those that others refer to first.
var tableNames = []string{"task_functions", "task_runs", "stack_runs", "keystore", "config_parameters", "task_locks"}

// relation is something in schema public that has the name of a table of ours.
type relation struct {
	Name      string
	Kind      string // pg_class.relkind
	Owner     string
	Me        string // who we are
	May       bool   // we are its owner, in a role of the owner, or a superuser
	Inherits  bool   // it has parents, children or partitions, or is one
	Shielded  bool   // row level security is on
	Forced    bool   // and holds for the owner
	Public    bool   // PUBLIC, that is everybody, has privileges on it
	Options   []string
	Temporary bool // not logged: a crash would empty it
}

func readRelations(ctx context.Context, tx pgx.Tx) ([]relation, error) {
	return collect[relation](ctx, tx, `
		select relname as name, relkind::text as kind, pg_get_userbyid(relowner) as owner, current_user::text as me,
			pg_has_role(relowner, 'usage') as may,
			relispartition or exists (select from pg_inherits where oid in (inhrelid, inhparent)) as inherits,
			relrowsecurity as shielded, relforcerowsecurity as forced,
			exists (select from aclexplode(relacl) where grantee = 0) as public,
			coalesce(reloptions, '{}') as options, relpersistence <> 'p' as temporary
		from pg_class where relnamespace = 'public'::regnamespace and relname = any($1) and relkind <> 'i'
		order by array_position($1::text[], relname::text)`, tableNames)
}

// table is what a table of ours is made of.
type table struct {
	columns     []column
	constraints []constraint
	indexes     []index // those that no constraint made
	options     []string
}

type column struct {
	Relname   string
	Name      string
	Type      string // as format_type writes it
	Enum      bool
	Required  bool   // not null
	Default   string // "" if there is none
	Generated bool   // computed from other columns
	Numbered  bool   // an identity column
}

type constraint struct {
	Relname    string
	Name       string
	Kind       string   // p, u, f, c as in pg_constraint.contype
	Columns    []string // in the order of the constraint
	Refers     string   // name of the table that a foreign key refers to
	OnDelete   string
	Plain      bool // checked at once, and for all rows
	Definition string
}

type index struct {
	Relname string
	Name    string
	Unique  bool
}

// column returns a pointer to the column of that name, nil if there is none.
func (t *table) column(name string) *column {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &t.columns[i]
}

// has tells whether all of the columns are there.
func (t *table) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return t.column(n) == nil })
}

// readTables reads our tables as they are in a schema.
func readTables(ctx context.Context, tx pgx.Tx, schema string) (map[string]*table, error) {
	const where = `c.relkind = 'r' and c.relname = any($2) and c.relnamespace = (select oid from pg_namespace where nspname = $1)`
	tables := make(map[string]*table)
	relations, err := collect[struct {
		Relname string
		Options []string
	}](ctx, tx, `select relname, coalesce(reloptions, '{}') as options from pg_class c where `+where, schema, tableNames)
	if err != nil {
		return nil, err
	}
	for _, r := range relations {
		tables[r.Relname] = &table{options: r.Options}
	}
	columns, err := collect[column](ctx, tx, `
		select c.relname, a.attname as name, format_type(a.atttypid, a.atttypmod) as type, t.typtype = 'e' as enum,
			a.attnotnull as required, coalesce(pg_get_expr(d.adbin, d.adrelid), '') as default, a.attgenerated <> '' as generated,
			a.attidentity <> '' as numbered
		from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
		where a.attnum > 0 and not a.attisdropped and `+where+` order by a.attnum`, schema, tableNames)
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		tables[c.Relname].columns = append(tables[c.Relname].columns, c)
	}
	constraints, err := collect[constraint](ctx, tx, `
		select c.relname, o.conname as name, o.contype::text as kind, pg_get_constraintdef(o.oid) as definition,
			array(select a.attname::text from unnest(o.conkey) with ordinality k (num, i)
				join pg_attribute a on a.attrelid = c.oid and a.attnum = k.num order by k.i) as columns,
			coalesce((select relname::text from pg_class where oid = o.confrelid), '') as refers,
			o.confdeltype::text as on_delete, not o.condeferrable and o.convalidated as plain
		from pg_class c join pg_constraint o on o.conrelid = c.oid
		where o.contype in ('p', 'u', 'f', 'c') and `+where+` order by o.conname`, schema, tableNames)
	if err != nil {
		return nil, err
	}
	for _, o := range constraints {
		tables[o.Relname].constraints = append(tables[o.Relname].constraints, o)
	}
	indexes, err := collect[index](ctx, tx, `
		select c.relname, i.relname as name, x.indisunique as unique
		from pg_class c join pg_index x on x.indrelid = c.oid join pg_class i on i.oid = x.indexrelid
		where not exists (select from pg_constraint where conindid = i.oid and conrelid = c.oid) and `+where+` order by i.relname`,
		schema, tableNames)
	if err != nil {
		return nil, err
	}
	for _, i := range indexes {
		tables[i.Relname].indexes = append(tables[i.Relname].indexes, i)
	}
	return tables, nil
}
