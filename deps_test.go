package amber_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/amberhost/amber"

// policy says which package may import what. Floors are listed from the top
// down. A package may import every package on a floor below its own, the whole
// standard library, and otherwise only what its line names: packages of its own
// floor, and modules. A word with ! forbids part of the standard library, or a
// package of a lower floor.
// Tests may import what they like.
const policy = `
floor workshop: nobody but tests, and what is on it, may import it
	internal/pgtest            pgx uuid
	internal/fault/pgproxy
	internal/fault/points
	internal/fault/ledger      !stack !vm !host
	internal/fault/trees       internal/fault/ledger !stack !vm !host
	internal/fault/audit       internal/fault/ledger internal/fault/trees pgx !stack !vm !host
	internal/fault/harness     internal/fault/audit internal/fault/ledger internal/fault/pgproxy internal/fault/points internal/fault/trees pgx uuid
	internal/fault/faults      internal/fault/harness

floor roof
	cmd/amber                  cobra runewidth term uuid

floor 4: what has hosts of its own, and looks at them from outside
	bench                      pgx uuid sync

floor 3
	host                       pgx fsnotify uuid sync zstd

floor 2
	functions                  functions/* pgx
	functions/wrappedkeystore  pgx
	functions/*                uuid
	console

	telemetry                  prometheus otel uuid

floor 2½: what functions share, and no function itself
	functions/wire             uuid

floor 1
	stack                      pgx pgxuuid uuid sync
	supabase/rest              pgx
	supabase/local             pgx xz

floor 0
	vm                         vm/internal/* qjs wazero zstd uuid !database/sql !net/http
	vm/internal/*              qjs wazero zstd !database/sql !net/http
	realtime                   websocket pgx uuid
	supabase                   toml godotenv
	migrations                 pgx

floor cellar
	service
	supabase/keys              jwt
	internal/failpoint         pgx
	internal/fair
	examples

modules, and what each is for
	cobra      github.com/spf13/cobra         commands, flags and their help
	fsnotify   github.com/fsnotify/fsnotify   hears that a task's file was saved
	godotenv   github.com/joho/godotenv       reads .env files as the Supabase CLI does
	jwt        github.com/golang-jwt/jwt/v5   signs and verifies Supabase's tokens
	pgx        github.com/jackc/pgx/v5        speaks to Postgres
	otel       go.opentelemetry.io/otel       spans: how they are made, and sent to collectors
	pgxuuid    github.com/vgarvardt/pgx-google-uuid/v5  ids as pgx sends them fastest
	prometheus github.com/prometheus/client_golang  metrics as all collectors read them
	qjs        github.com/fastschema/qjs      QuickJS as a WebAssembly module
	runewidth  github.com/mattn/go-runewidth  columns that text takes on a terminal
	sync       golang.org/x/sync              goroutines that are started and awaited together
	term       golang.org/x/term              whether there is a terminal, and how wide
	toml       github.com/pelletier/go-toml/v2  reads supabase/config.toml, and knows the line of each key
	uuid       github.com/google/uuid         ids that sort by time
	wazero     github.com/tetratelabs/wazero  runs WebAssembly without cgo
	websocket  github.com/coder/websocket     Realtime's transport
	xz         github.com/ulikunitz/xz        unpacks the Postgres that is fetched
	zstd       github.com/klauspost/compress  makes snapshots and answers small
`

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	readDirectories(t)
	for _, v := range violations(mustParse(t, policy), goList(t)) {
		t.Error(v)
	}
}

// TestPlantedImport plants a file in a real package and expects go list and the
// rules to find it together.
func TestPlantedImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	planted := filepath.Join(dir, "planted.go")
	source := "package service\n\nimport _ \"" + module + "/migrations\"\n"
	if err := os.WriteFile(planted, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "service", "planted.go"): planted,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	found := violations(mustParse(t, policy), goList(t, "-overlay", file))
	if !slices.ContainsFunc(found, func(v string) bool { return strings.HasPrefix(v, "service imports migrations:") }) {
		t.Errorf("violations = %q, want the planted one", found)
	}
}

func TestViolations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from, imports string
		want                string // beginning of the violation, "" for none
	}{
		{"down", "host", module + "/functions", ""},
		{"down many floors", "cmd/amber", module + "/service", ""},
		{"standard library", "service", "net/http", ""},
		{"own module", "stack", "github.com/jackc/pgx/v5/pgxpool", ""},
		{"named on the same floor", "functions", module + "/functions/tasks", ""},
		{"named by pattern, with a line of its own", "functions", module + "/functions/wrappedkeystore", ""},
		{"what siblings share", "functions/tasks", module + "/functions/wire", ""},
		{"up", "vm", module + "/stack", "vm imports stack: floor 1 is not below floor 0"},
		{"up from the cellar", "supabase/keys", module + "/vm", "supabase/keys imports vm: floor 0 is not below floor cellar"},
		{"beside", "stack", module + "/supabase/rest", "stack imports supabase/rest: both are on floor 1"},
		{"sibling function", "functions/tasks", module + "/functions/publish", "functions/tasks imports functions/publish: both are on floor 2"},
		{"own table", "functions/tasks", module + "/functions", "functions/tasks imports functions: both are on floor 2"},
		{"another's module", "host", "github.com/tetratelabs/wazero/api", "host imports github.com/tetratelabs/wazero/api: only vm, vm/internal/* may"},
		{"longer module name", "vm", "github.com/tetratelabs/wazerox", "vm imports github.com/tetratelabs/wazerox: no module of the policy"},
		{"unknown module", "host", "example.com/x", "host imports example.com/x: no module of the policy"},
		{"C", "vm", "C", "vm imports C: "},
		{"forbidden standard library", "vm", "net/http/httptest", "vm imports net/http/httptest: its line forbids it"},
		{"test helper", "cmd/amber", module + "/internal/pgtest", "cmd/amber imports internal/pgtest: floor workshop is not below floor roof"},
		{"judged by what it shares nothing with", "internal/fault/audit", module + "/stack", "internal/fault/audit imports stack: its line forbids it"},
		{"forbidden, though below", "internal/fault/ledger", module + "/stack", "internal/fault/ledger imports stack: its line forbids it"},
		{"unlisted", "util", "fmt", "util has no line"},
		{"unlisted below a function", "functions/tasks/sub", "fmt", "functions/tasks/sub has no line"},
		{"unlisted import", "host", module + "/util", "host imports util, which has no line"},
	}
	rules := mustParse(t, policy)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found := violations(rules, []goPackage{{ImportPath: module + "/" + tt.from, Imports: []string{tt.imports}}})
			got := strings.Join(found, "\n")
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("violations = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\tservice\n":                                          "not below a heading",
		"floor a\n\tservice\n\tservice\n":                      "listed twice",
		"floor a\n\tservice nosuch\n":                          "no module or package",
		"floor a\n\tservice\nmodules\n\tx example.com/x\n":     "says what it is for",
		"floor a\n\tservice\nmodules\n\tx example.com/x why\n": "no package may import it",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%q) = %v, want an error with %q", text, err, want)
		}
	}
}

// readDirectories reads every directory of the module: go test repeats a pass
// from its cache until something that the test itself has read changes, and it
// does not know what go list reads.
func readDirectories(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(dir string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && dir != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goPackage is what we read of go list's answer.
type goPackage struct {
	ImportPath string
	Imports    []string // of the files that are not tests
}

// goList lists this module's packages.
func goList(t *testing.T, flags ...string) []goPackage {
	t.Helper()
	args := append(append([]string{"list", "-e", "-json=ImportPath,Imports"}, flags...), "./...")
	cmd := exec.CommandContext(t.Context(), "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatalf("go list: %v", err)
		}
		list = append(list, p)
	}
	return list
}

// rules is a parsed policy.
type rules struct {
	rooms   map[string]room   // by package, "functions/*" stands for its children
	modules map[string]string // module path by short name
}

// room is a line of the policy.
type room struct {
	floor  string
	height int // floors that are higher, so greater is lower
	may    []string
}

func mustParse(t *testing.T, text string) rules {
	t.Helper()
	r, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(text string) (rules, error) {
	r := rules{rooms: map[string]room{}, modules: map[string]string{}}
	var floor string
	var height int
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case !strings.HasPrefix(line, "\t"):
			floor, _, _ = strings.Cut(strings.TrimSpace(line), ":")
			height++
		case floor == "":
			return r, fmt.Errorf("policy: %q is not below a heading", words[0])
		case r.rooms[words[0]].floor != "" || r.modules[words[0]] != "":
			return r, fmt.Errorf("policy: %s is listed twice", words[0])
		case strings.HasPrefix(floor, "modules"):
			if len(words) < 3 {
				return r, fmt.Errorf("policy: module %s needs a line that says what it is for", words[0])
			}
			r.modules[words[0]] = words[1]
		default:
			r.rooms[words[0]] = room{floor: floor, height: height, may: words[1:]}
		}
	}
	return r, r.check()
}

// check finds names that lead nowhere.
func (r rules) check() error {
	used := map[string]bool{}
	for name, room := range r.rooms {
		for _, word := range room.may {
			used[word] = true
			_, isRoom := r.rooms[word]
			if !strings.HasPrefix(word, "!") && !isRoom && r.modules[word] == "" {
				return fmt.Errorf("policy: %s may import %s, but no module or package is called so", name, word)
			}
		}
	}
	for name := range r.modules {
		if !used[name] {
			return fmt.Errorf("policy: module %s is listed, but no package may import it", name)
		}
	}
	return nil
}

// find returns the line of a package and the name under which it stands there.
func (r rules) find(name string) (string, room, bool) {
	if room, ok := r.rooms[name]; ok {
		return name, room, true
	}
	name = siblings(name)
	found, ok := r.rooms[name]
	return name, found, ok
}

// siblings is the pattern for a package and those beside it.
func siblings(name string) string { return path.Dir(name) + "/*" }

// violations says what breaks the rules, a sentence for each.
func violations(r rules, packages []goPackage) []string {
	var found []string
	for _, p := range packages {
		if p.ImportPath == module {
			continue // the top level has tests only
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		_, from, ok := r.find(name)
		if !ok {
			found = append(found, name+" has no line in the policy of deps_test.go: give it one on the floor where it belongs "+
				"(ARCHITECTURE.md says how to tell), or put its code into a package that has one")
			continue
		}
		for _, imported := range p.Imports {
			if why := r.forbids(from, imported); why != "" {
				found = append(found, name+" imports "+strings.TrimPrefix(imported, module+"/")+why)
			}
		}
	}
	return found
}

// forbids says why a package must not import another, "" if it may.
func (r rules) forbids(from room, imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case strings.HasPrefix(imported, module+"/"):
		return r.forbidsRoom(from, strings.TrimPrefix(imported, module+"/"))
	case imported == "C" || strings.Contains(first, "."):
		return r.forbidsModule(from, imported)
	}
	for _, word := range from.may {
		if strings.HasPrefix(word, "!") && within(imported, word[1:]) {
			return ": its line forbids it"
		}
	}
	return ""
}

func (r rules) forbidsRoom(from room, name string) string {
	line, to, ok := r.find(name)
	switch {
	case !ok:
		return ", which has no line in the policy of deps_test.go"
	case slices.Contains(from.may, "!"+line):
		return ": its line forbids it"
	case to.height > from.height || slices.Contains(from.may, line) || slices.Contains(from.may, siblings(name)):
		return ""
	case to.height == from.height:
		return fmt.Sprintf(": both are on %s; what both need belongs on a lower floor", to.floor)
	}
	return fmt.Sprintf(": %s is not below %s; move the code, or what both need, down", to.floor, from.floor)
}

func (r rules) forbidsModule(from room, imported string) string {
	for name, mod := range r.modules {
		if !within(imported, mod) {
			continue
		}
		if slices.Contains(from.may, name) {
			return ""
		}
		var holders []string
		for _, holder := range slices.Sorted(maps.Keys(r.rooms)) {
			if slices.Contains(r.rooms[holder].may, name) {
				holders = append(holders, holder)
			}
		}
		return ": only " + strings.Join(holders, ", ") + " may; ask one of them for what you need"
	}
	return ": no module of the policy in deps_test.go has it; a new one needs a line there that says what it is for"
}

// within tells whether an import path is root or below it.
func within(name, root string) bool {
	return name == root || strings.HasPrefix(name, root+"/")
}
