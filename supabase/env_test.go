package supabase_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/amberhost/amber/supabase"
)

// TestParseEnv is the table of what stands in .env files: NAME is looked for,
// and where it is.
func TestParseEnv(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, want string
		line             int
	}{
		{"plain", "NAME=text\n", "text", 1},
		{"no end of line", "A=1\nNAME=text", "text", 2},
		{"comments and gaps", "# one\n\n  # two\n\t NAME = text # three\n", "text", 4},
		{"a hash in a word", "NAME=te#xt", "te#xt", 1},
		{"export", "export A=1\nexport NAME=text\n", "text", 2},
		{"colon", "NAME: text\n", "text", 1},
		{"single quotes", "NAME='a $B \\n # c'\n", `a $B \n # c`, 1},
		{"double quotes", `NAME="a\nb \"c\" d" # e`, "a\nb \"c\" d", 1},
		{"several lines", "A='1\n2'\nNAME=\"first\nNAME=second\nthird\"\nB=1\n", "first\nNAME=second\nthird", 3},
		{"another's value", "A=one\nNAME=${A}-$A-$NONE.\n", "one-one-.", 2},
		{"behind several lines", "A='1\n2' NAME=text\nB=1\n", "text", 2},
		{"several lines twice in one", "A='1\n2' NAME=\"te\nxt\" B='1'\n", "te\nxt", 2},
		{"behind a quote that is none", "A='1\n2\\'\n3'\nNAME=text\n", "text", 4},
		{"empty", "NAME=\nA=1\n", "", 1},
		{"twice: the last one counts", "NAME=1\nNAME=2\n", "2", 2},
		{"CRLF", "A='1\r\n2'\r\nNAME=text\r\n", "text", 3},
		{"byte order mark", "\ufeffNAME=text\n", "text", 1},
		{"an equals sign", "NAME=a=b=", "a=b=", 1},
	} {
		env, err := supabase.ParseEnv("x/.env", []byte(tt.text))
		if v, ok := env["NAME"]; err != nil || !ok || v != (supabase.Value{Path: "NAME", Text: tt.want, File: "x/.env", Line: tt.line}) {
			t.Errorf("%s: %+v, %v, want %q in line %d", tt.name, v, err, tt.want, tt.line)
		}
	}
	if env, err := supabase.ParseEnv("x/.env", []byte("\n# nothing\n")); err != nil || len(env) != 0 {
		t.Errorf("nothing: %v, %v", env, err)
	}
}

// TestParseEnvRefuses: errors name the line, and show nothing of the file.
func TestParseEnvRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"no value", "A=1\n\nhunter2\nB=2\n", "x/.env:3: want NAME=value"},
		{"no value at the end", "A=1\nhunter2", "x/.env:2: want NAME=value"},
		{"no name", "A=1\n=hunter2\n", "x/.env:2: want NAME=value"},
		{"no name can have this", "A=1\nhunter-2=3\n", "x/.env:2: want NAME=value"},
		{"behind a quote", "A='1' hunter2\n", "x/.env:1: want NAME=value"},
		{"open quote", "A=1\nB='hunter2\nC=3\n", "x/.env:2: the quote that begins in this line is not closed"},
		{"open quote at the end", "A=1\nB=\"hunter2", "x/.env:2: the quote that begins in this line is not closed"},
		{"open quote, closed by the next", "A=1\nB=\"hunter2\nC=\"3\"\n", "x/.env:2: the quote that begins in this line is not closed"},
		{"open quote behind several lines", "A='1\n2' B='hunter2\n", "x/.env:2: the quote that begins in this line is not closed"},
		{"behind several lines", "A='1\n2'\nhunter2\n", "x/.env:3: want NAME=value"},
		{"no name behind several lines", "A='1\n2' =hunter2\n", "x/.env:1: the quote that begins in this line is not closed"},
		{"JSON", "{\"hunter2\":\n1}", "x/.env:1: want NAME=value"},
	} {
		env, err := supabase.ParseEnv("x/.env", []byte(tt.text))
		if env != nil || err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, env, err, tt.want)
		}
	}
}

// TestParseEnvCost: four times the text costs some four times as much memory, and
// so time, whatever it is. (It does not run beside others, whose memory would count.)
func TestParseEnvCost(t *testing.T) {
	for name, shape := range map[string]struct{ begin, line string }{
		"names":                    {"", "A=1\n"},
		"comments":                 {"", "#\n"},
		"open quote":               {"A=\"", "x\n"},
		"quotes that are none":     {"A=\"", "\\\"\n"},
		"other quotes":             {"A=\"", "'\n"},
		"one closes, one opens":    {"A=\"", "\" A=\"\n"},
		"closed and wrong at last": {"A=\"", "\"\"\n"},
		"many in one line":         {"A=1", " A='1'"},
	} {
		cost := func(lines int) uint64 {
			text := []byte(shape.begin + strings.Repeat(shape.line, lines))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = supabase.ParseEnv("x/.env", text)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		const lines = 2000
		if little, much := cost(lines), cost(4*lines); much > 8*little {
			t.Errorf("%s: %d lines cost %d bytes, %d cost %d", name, lines, little, 4*lines, much)
		}
	}
}

// TestReadEnv takes one file away after the other: what is left says where NAME is.
func TestReadEnv(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		environment string
		files       []string // in falling precedence
		never       []string
	}{
		{"", []string{"supabase/.env.development.local", "supabase/.env.local", "supabase/.env.development", "supabase/.env",
			".env.development.local", ".env.local", ".env.development", ".env"}, []string{"supabase/.env.test", "supabase/functions/.env"}},
		{"production", []string{"supabase/.env.production.local", "supabase/.env.local", "supabase/.env.production", "supabase/.env",
			".env.production.local", ".env.local", ".env.production", ".env"}, []string{"supabase/.env.development"}},
		{"test", []string{"supabase/.env.test.local", "supabase/.env.test", "supabase/.env", ".env.test.local", ".env.test", ".env"},
			[]string{"supabase/.env.local", ".env.local"}},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/supabase/functions", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range append(tt.never, tt.files...) {
			write(t, filepath.Join(dir, file), "NAME="+file+"\n"+strings.ToUpper(strings.NewReplacer("/", "_", ".", "_").Replace(file))+"=1\n")
		}
		for i, file := range tt.files {
			env, err := supabase.ReadEnv(dir, tt.environment)
			if v := env["NAME"]; err != nil || v.Text != file || v.Where() != filepath.Join(dir, file)+":1" {
				t.Errorf("%q: %+v, %v, want %s", tt.environment, v, err, file)
			}
			if want := 1 + len(tt.files) - i; len(env) != want { // all that is in any of them
				t.Errorf("%q without %v: %d names, want %d: %v", tt.environment, tt.files[:i], len(env), want, env)
			}
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
		if env, err := supabase.ReadEnv(dir, tt.environment); err != nil || len(env) != 0 {
			t.Errorf("%q, no files: %v, %v", tt.environment, env, err)
		}
	}
	for what, make := range map[string]func(string) error{
		"a directory": func(file string) error { return os.Mkdir(file, 0o755) },
		"a pipe":      func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a link":      func(file string) error { return os.Symlink("/dev/null", file) },
	} {
		dir := t.TempDir()
		if err := make(dir + "/.env"); err != nil {
			t.Fatal(err)
		}
		if _, err := supabase.ReadEnv(dir, ""); err == nil || !strings.Contains(err.Error(), dir+"/.env is no regular file") {
			t.Errorf("%s: %v", what, err)
		}
	}
	dir := t.TempDir()
	write(t, dir+"/.env.local", "A="+strings.Repeat("x", 256<<10))
	if _, err := supabase.ReadEnv(dir, ""); err == nil || !strings.Contains(err.Error(), ".env.local has more than 262144 bytes") {
		t.Errorf("a large one: %v", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
