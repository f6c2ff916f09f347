package migrations_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

// originals are databases that the original made: files of testdata in the
// order in which they were applied. Own are columns that amber does not know
// and keeps.
var originals = []struct {
	name, files string
	own         []string
	ended       int  // rows that were left unfinished
	roles       bool // its policies name Supabase's roles
}{
	{"a", "a rows_a", nil, 3, true},
	{"a b c", "a b c rows_a rows_stack", nil, 10, true},
	{"a b c f g", "a b c f g rows_a rows_stack", nil, 10, true},
	{"a b c f g h", "a b c f g h rows_a rows_stack", nil, 10, true},
	{"b", "b rows_b_keystore", nil, 0, true},
	{"d", "d rows_d", nil, 1, false},
	{"a d", "a d rows_a", nil, 3, true},
	{"e", "e rows_e", nil, 2, false},
	{"a c e", "a c e rows_a rows_stack", nil, 10, true},
	{"a c j", "a c j rows_a rows_stack", nil, 10, true},
	{"a b c j", "a b c j rows_a rows_stack", nil, 10, true},
	{"i", "i rows_i", nil, 0, false},
	{"l setup", "l_setup rows_l", []string{"task_runs.name", "task_runs.args"}, 1, false},
	{"l keystore", "l_keystore", []string{"keystore.owner_id"}, 0, false},
	{"l", "l_setup l_keystore rows_l", []string{"task_runs.name", "task_runs.args", "keystore.owner_id"}, 1, false},
}

// prelude is what the original found in its database.
const prelude = supabaseRoles + `
create schema extensions;
create schema auth;
create function auth.role() returns text language sql stable as $$ select current_setting('request.jwt.claims', true)::jsonb ->> 'role' $$;
grant usage on schema auth to anon, authenticated, service_role;
create publication supabase_realtime;
`

// original connects to a database that the original made.
func original(t *testing.T, files string) *pgx.Conn {
	t.Helper()
	conn := connect(t, pgtest.NewEmpty(t))
	script(t, conn, prelude)
	load(t, conn, files)
	return conn
}

// load runs files of testdata.
func load(t *testing.T, conn *pgx.Conn, files string) {
	t.Helper()
	for _, f := range strings.Fields(files) {
		text, err := os.ReadFile(filepath.Join("testdata", f+".sql"))
		if err != nil {
			t.Fatal(err)
		}
		script(t, conn, string(text))
	}
}

func apply(t *testing.T, conn *pgx.Conn) migrations.Report {
	t.Helper()
	report, err := migrations.Apply(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAdoption(t *testing.T) {
	t.Parallel()
	want := sync.OnceValue(func() []string { return shape(t, migrated(t, prelude)) })
	for _, tt := range originals {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := original(t, tt.files)
			checkAdoption(t, conn, want(), tt.own, tt.ended)
			checkPrivileges(t, conn)
			exec(t, conn, `set role service_role`)
			checkInserts(t, conn, slices.Contains(tt.own, "task_runs.name"))
		})
	}
}

// checkAdoption migrates a database of the original: it gets our tables and
// keeps its rows, and Plan knows before.
func checkAdoption(t *testing.T, conn *pgx.Conn, want, own []string, ended int) {
	t.Helper()
	before, rows := state(t, conn), allRows(t, conn)
	plan, err := migrations.Plan(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if d := differences(state(t, conn), before); d != "" {
		t.Errorf("a plan changed%s", d)
	}
	report := apply(t, conn)
	if !reflect.DeepEqual(plan, report) {
		t.Errorf("planned %+v\n did %+v", plan, report)
	}
	if len(report.Changes) == 0 || !slices.Equal(report.Files, migrations.Names()) {
		t.Errorf("reported %+v", report)
	}
	got := slices.DeleteFunc(shape(t, conn), func(line string) bool {
		return slices.ContainsFunc(own, func(c string) bool {
			table, column, _ := strings.Cut(c, ".")
			return strings.HasPrefix(line, "column "+c+" ") || column == "owner_id" && strings.Contains(line, table) && strings.Contains(line, column)
		})
	})
	if d := differences(got, want); d != "" {
		t.Errorf("the tables are not those of an empty database:%s", d)
	}
	checkRows(t, conn, rows, ended)
	after := state(t, conn)
	if again := apply(t, conn); !reflect.DeepEqual(again, migrations.Report{}) {
		t.Errorf("a second time did %+v", again)
	}
	if d := differences(state(t, conn), after); d != "" {
		t.Errorf("a second time changed%s", d)
	}
}

// allRows are the rows of all tables, by table and id.
func allRows(t *testing.T, conn *pgx.Conn) map[string]map[string]any {
	t.Helper()
	all := make(map[string]map[string]any)
	for _, table := range column[string](t, conn, publicTables) {
		for _, text := range rowsOf(t, conn, table) {
			row := decode(t, text).(map[string]any)
			id, _ := row["id"].(string)
			all[table+" "+id] = row
		}
	}
	return all
}

func decode(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber() // 1.0 is not 1.00
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// checkRows compares the rows of now with those of before: each value is there,
// as what it was or what its type became; what changed is in amber.adopted.
func checkRows(t *testing.T, conn *pgx.Conn, before map[string]map[string]any, ended int) {
	t.Helper()
	adopted := make(map[string]map[string]any)
	if column[bool](t, conn, `select to_regclass('amber.adopted') is not null`)[0] {
		for _, text := range column[string](t, conn, `select to_jsonb(a)::text from amber.adopted a`) {
			a := decode(t, text).(map[string]any)
			adopted[a["table_name"].(string)+" "+a["row_id"].(string)] = a["original"].(map[string]any)
		}
	}
	after := allRows(t, conn)
	if len(after) != len(before) {
		t.Errorf("%d rows, were %d", len(after), len(before))
	}
	left := 0
	for id, old := range before {
		if e, ok := after[id]["error"].(map[string]any); ok && e["code"] == "LEFT_BY_TASKER" {
			left++
			if after[id]["status"] != "failed" || after[id]["ended_at"] == nil {
				t.Errorf("%s was left: %v", id, after[id])
			}
		}
		for name, was := range old {
			is := after[id][name]
			if kept, changed := adopted[id][name]; changed {
				is = kept
			} else if was == nil {
				continue // may be filled
			}
			if !same(t, was, is) {
				t.Errorf("%s.%s was %v, is %v", id, name, was, is)
			}
		}
	}
	if left != ended {
		t.Errorf("%d rows were ended, want %d", left, ended)
	}
}

// same tells whether a value is what it was, maybe in another type.
func same(t *testing.T, was, is any) bool {
	t.Helper()
	text, ok := was.(string)
	if reflect.DeepEqual(was, is) || !ok {
		return reflect.DeepEqual(was, is)
	}
	if digits, ok := strings.CutPrefix(text, `\x`); ok { // bytea
		data, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := is.(map[string]any); ok && m["base64"] != nil {
			return m["base64"] == base64.StdEncoding.EncodeToString(data)
		}
		text = string(bytes.TrimSpace(data))
	}
	return strings.ContainsAny(text[:1], " {[") && reflect.DeepEqual(decode(t, text), is)
}

// TestAdoptedWords is what readers of the original's columns find afterwards.
func TestAdoptedWords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		files, query, want string
	}{
		{"e rows_e", `select error from stack_runs where id::text like '%31'`, `{"n": 1, "message": "boom"}`},
		{"e rows_e", `select error from stack_runs where id::text like '%32'`, `"Error: plain \"text\""`},
		{"e rows_e", `select error from stack_runs where id::text like '%33'`, `"42"`},
		{"e rows_e", `select error from stack_runs where id::text like '%34'`, `"{not json"`},
		{"e rows_e", `select error from stack_runs where id::text like '%35'`, `"{\"zero\": \"\\u0000\"}"`},
		{"e rows_e", `select logs from task_runs where id::text like '%11'`, `[{"at": 1}, "line", 2]`},
		{"e rows_e", `select to_jsonb(created_at = '2025-05-01' and updated_at = created_at) from task_runs where id::text like '%11'`, `true`},
		{"i rows_i", `select logs from task_runs where id::text like '%11'`, `["a", "{\"b\": 1}", null]`},
		{"i rows_i", `select error from task_runs where id::text like '%12'`, `"plain"`},
		{"i rows_i", `select method_path from stack_runs where id::text like '%31'`, `["admin", "list"]`},
		{"i rows_i", `select vm_state from stack_runs where id::text like '%33'`, `{"base64": ""}`},
		{"l_setup rows_l", `select jsonb_build_array(task_name, input) from task_runs where id::text like '%11'`, `["hello", {"n": 1}]`},
		{"d rows_d", `select jsonb_build_array(service_name, parent_task_run_id) from stack_runs where id::text like '%31'`, `["tasks", "00000000-0000-4000-8000-000000000011"]`},
		{"d rows_d", `select to_jsonb(task_function_id is null) from task_runs`, `true`},
		{"b rows_b_keystore", `select jsonb_build_array(name, value, scope) from keystore`, `["GAPI_KEY", "v", "global"]`},
		{"a rows_a", `select jsonb_build_array(key_name, key_value) from keystore where scope = 'global'`, `["GAPI_KEY", "{\"k\": 1}"]`},
		{"l_keystore", `select jsonb_agg(value order by value) from keystore where scope in ('global', 'openai')`, `["newer", "shared", "value"]`},
		{"a rows_a", `select to_jsonb(updated_at < now() - interval '1 day') from task_runs where id::text like '%12'`, `true`},
	}
	conns := make(map[string]*pgx.Conn)
	for _, tt := range tests {
		if conns[tt.files] == nil {
			conns[tt.files] = original(t, tt.files)
			apply(t, conns[tt.files])
		}
		if got := column[string](t, conns[tt.files], `select (`+tt.query+`)::text`)[0]; got != tt.want {
			t.Errorf("%s: %s\n got %s\nwant %s", tt.files, tt.query, got, tt.want)
		}
	}
}

// TestUnfinishedWork: what nobody has begun, minutes ago, is still done.
func TestUnfinishedWork(t *testing.T) {
	t.Parallel()
	conn := original(t, "a b c rows_a rows_stack")
	report := apply(t, conn)
	got := column[string](t, conn, `select right(id::text, 2) || ' ' || status from task_runs where status <> 'failed'
		union all select right(id::text, 2) || ' ' || status from stack_runs where status <> 'failed' order by 1`)
	want := []string{"11 completed", "13 error", "17 archived by hand", "18 queued", "31 completed", "36 pending"}
	if !slices.Equal(got, want) {
		t.Errorf("not failed: %q, want %q", got, want)
	}
	for _, line := range []string{
		"task_runs: rows that were left unfinished (1 processing, 2 queued, 1 suspended) are failed with the code LEFT_BY_TASKER; amber.adopted has what they were",
		"stack_runs: rows that were left unfinished (2 in_progress, 3 pending, 1 suspended_waiting_child) are failed with the code LEFT_BY_TASKER; amber.adopted has what they were",
	} {
		if !slices.Contains(report.Changes, line) {
			t.Errorf("not reported: %s\nin %q", line, report.Changes)
		}
	}
	for _, line := range []string{
		"task_runs: rows are kept in a status that amber does not know: 1 archived by hand",
		"task_runs: rows of the last 10 minutes that nobody has begun are amber's to do: 1 queued",
		"stack_runs: rows of the last 10 minutes that nobody has begun are amber's to do: 1 pending",
	} {
		if !slices.Contains(report.Warnings, line) {
			t.Errorf("not warned of: %s\nin %q", line, report.Warnings)
		}
	}
	exec(t, conn, `set role service_role`)
	refused(t, conn, `select from amber.adopted`)
}
