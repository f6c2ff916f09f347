package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/keys"
)

// variables is an environment.
func variables(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// workdir makes a directory of a project with a config.toml.
func workdir(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/supabase", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "supabase/config.toml", config)
	return dir
}

func newKey(t *testing.T, id string) string {
	t.Helper()
	entry, err := keys.NewKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// fromEnv is the configuration of a developer's host that these variables make.
func fromEnv(pairs ...string) (host.Config, error) {
	return host.Load(host.Sources{Mode: host.Dev, Getenv: variables(pairs...)})
}

func TestDevFromEnv(t *testing.T) {
	t.Parallel()
	c, err := fromEnv()
	if err != nil || c.Port != 54321 || c.DBPort != 54322 || c.DataDir == "" || !c.Open || c.Keys != keys.Local() {
		t.Errorf("nothing set: %+v, %v", c, err)
	}
	entry := newKey(t, "k1")
	c, err = fromEnv("AMBER_PORT", "1", "AMBER_DB_PORT", "2", "AMBER_DATA", "/d", "AMBER_POSTGRES_BIN", "/b",
		"AMBER_KEYS", entry, "DATABASE_URL", "postgres://127.0.0.1/x")
	if err != nil || c.Port != 1 || c.DBPort != 2 || c.DataDir != "/d" || c.PostgresBin != "/b" || c.AmberKeys != entry || c.DatabaseURL != "postgres://127.0.0.1/x" {
		t.Errorf("all set: %+v, %v", c, err)
	}
	for name, value := range map[string]string{
		"AMBER_PORT": "80a", "AMBER_DB_PORT": "65536", "AMBER_KEYS": "k1:" + strings.Repeat("c2VjcmV0", 3),
	} {
		_, err := fromEnv(name, value)
		if err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		if name == "AMBER_KEYS" && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// TestPrecedence takes one source away after the other.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	dir := workdir(t, "[api]\nport = 4\n[amber]\ndrain = \"4s\"\nhost_name = \"env(NAME)\"\n")
	flags := map[string]string{"port": "1", "drain": "1s"}
	env := []string{"NAME", "four", "AMBER_PORT", "2", "AMBER_DRAIN", "2s", "AMBER_TASKS", "/t2", "TASKS_DIRECTORY", "/t3"}
	config := dir + "/supabase/config.toml"
	for _, test := range []struct {
		flags   map[string]string
		env     []string
		workdir string
		want    map[string]string // text and source by name
	}{
		{flags, env, dir, map[string]string{"port": "1 --port", "drain": "1s --drain", "tasks": "/t2 AMBER_TASKS", "host-name": "four " + config + ":5"}},
		{nil, env, dir, map[string]string{"port": "2 AMBER_PORT", "drain": "2s AMBER_DRAIN", "tasks": "/t2 AMBER_TASKS"}},
		{nil, []string{"NAME", "x", "TASKS_DIRECTORY", "/t3"}, dir, map[string]string{
			"port": "4 " + config + ":2", "drain": "4s " + config + ":4", "tasks": "/t3 TASKS_DIRECTORY", "workdir": dir + " --workdir"}},
		{nil, []string{"NAME", "x", "SUPABASE_WORKDIR", dir}, "", map[string]string{"port": "4 " + config + ":2", "workdir": dir + " SUPABASE_WORKDIR"}},
		{nil, nil, "", map[string]string{"port": "54321 default", "drain": "25s default", "tasks": " default", "workdir": "the current directory default"}},
	} {
		sources := host.Sources{Mode: host.Serve, Flags: test.flags, Getenv: variables(test.env...), Workdir: test.workdir}
		values, err := host.Explain(sources)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if want, ok := test.want[v.Name]; ok && v.Text+" "+v.Source != want {
				t.Errorf("%s: %s %s, want %s", v.Name, v.Text, v.Source, want)
			}
		}
		c, err := host.Load(sources)
		if got := fmt.Sprint(c.Port, " "); err != nil || !strings.HasPrefix(test.want["port"], got) {
			t.Errorf("port %d, %v, want %s", c.Port, err, test.want["port"])
		}
	}
}

// TestCurrentDirectory: the project is the one of the directory where amber is started.
func TestCurrentDirectory(t *testing.T) {
	t.Chdir(workdir(t, "[api]\nport = 4\n[db]\nport = \"5a\"\n"))
	_, err := host.Load(host.Sources{Mode: host.Dev})
	if want := `supabase/config.toml:4: db.port: "5a" is not a port: want a number from 0 to 65535`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if c, err := host.Load(host.Sources{Mode: host.Serve}); err != nil || c.Port != 4 { // which has no use for db.port
		t.Errorf("port %d, %v", c.Port, err)
	}
}

// TestTable: what holds for every setting, whichever are added.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, mode := range []host.Mode{host.Dev, host.Serve} {
		seen := map[string]bool{}
		for _, s := range host.Settings(mode) {
			for _, name := range append([]string{"--" + s.Name, s.TOML}, s.Env...) {
				if seen[name] && name != "" {
					t.Errorf("%s: %q gives two settings", mode, name)
				}
				seen[name] = true
			}
			if s.Help == "" || strings.HasSuffix(s.Help, ".") || !slices.Contains(s.Modes, mode) || len(s.Env) == 0 {
				t.Errorf("%s: %+v", mode, s)
			}
			if s.Name != "amber-keys" && (!strings.HasPrefix(s.Env[0], "AMBER_") || strings.ReplaceAll(strings.ToLower(s.Env[0][6:]), "_", "-") != s.Name) {
				t.Errorf("%s is called %s", s.Name, s.Env[0])
			}
		}
	}
}

// TestRetention: runs are kept for a time, or for ever.
func TestRetention(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 168 * time.Hour, "10m": 10 * time.Minute, "720h": 720 * time.Hour, "off": -1, "0": -1, "0s": -1} {
		c, err := host.Load(host.Sources{Mode: host.Serve, Getenv: variables("AMBER_RETENTION", text)})
		if err != nil || c.Retention != want {
			t.Errorf("%q: %v, %v, want %v", text, c.Retention, err, want)
		}
	}
}

// TestWrong is the table of values that are refused, with where and why.
func TestWrong(t *testing.T) {
	t.Parallel()
	local := keys.Local()
	for _, test := range []struct{ setting, text, want string }{
		{"port", "abc", `"abc" is not a port: want a number from 0 to 65535`},
		{"port", "-1", `"-1" is not a port`},
		{"port", "65536", "is not a port"},
		{"listen", "0.0.0.0:80", "is a setting of its own, port"},
		{"listen", "a b", "is not an address"},
		{"url", "amber.example.com", "want something like https://"},
		{"url", "ftp://amber.example.com", "is not a URL of a host"},
		{"pooler", "pgbouncer", "want auto, direct, session or transaction"},
		{"pool-size", "1", "want a number from 2 to"},
		{"migrate", "never", "want auto or check"},
		{"drain", "25", "is not a duration: want something like 25s"},
		{"drain", "0s", "want at least"},
		{"retention", "7 days", "is not a time for which runs are kept: want something like 168h (7 days), or off"},
		{"retention", "-1h", "is not a time for which runs are kept"},
		{"retention", "30s", "want at least 10m0s, so that clients"},
		{"database-wait", "-1s", "is not a duration"},
		{"body-limit", "16 megs", "is not a size"},
		{"body-limit", "0", "want a size from 1 byte"},
		{"body-limit", "99999GB", "want a size from 1 byte"},
		{"max-bodies", "many", "want a number from 1"},
		{"limit-cpu", "0s", "want at least 1ms"},
		{"limit-cpu", "1000000h", "want at most"},
		{"limit-run-cpu", "much", "is not a duration"},
		{"limit-memory", "1MiB", "want a size from 4MiB to 1GiB"},
		{"limit-calls", "0", "want a number from 1"},
		{"limit-value", "1GB", "want a size from 1KiB to 256MiB"},
		{"limit-snapshot", "tiny", "is not a size"},
		{"limit-log-lines", "1", "want a number from 2"},
		{"limit-log-bytes", "1", "want a size from 1KiB to 1GiB"},
		{"limit-run-log-lines", "-1", "want a number from 2"},
		{"limit-run-log-bytes", "2GiB", "want a size from 1KiB to 1GiB"},
		{"log-level", "loud", "want debug, info, warn or error"},
		{"log-format", "xml", "want text or json"},
		{"jwt-secret", "short", "at least 16 characters"},
		{"anon-key", local.ServiceRoleKey, "is the key of the role service_role: want that of anon"},
		{"service-role-key", local.AnonKey, "is the key of the role anon: want that of service_role"},
		{"service-role-key", local.PublishableKey, "want sb_secret_"},
		{"service-role-key", "your-service-role-key", "is neither a JWT nor"},
		{"publishable-key", `{"default":1}`, "is not a map of names to keys"},
		{"secret-key", local.SecretKey + ",oops", "key 2 does not look like one"},
		{"amber-keys", "k1", "entry 1: has no colon"},
		{"amber-keys", "@/nonexistent/keys", "no such file"},
		{"database-url", "postgres://app:hunter2@db:port/x", "cannot parse"},
		{"database-url", "host=db password=hunter2 port=x", "cannot parse"},
	} {
		var setting host.Setting
		for _, s := range host.Settings(host.Serve) {
			if s.Name == test.setting {
				setting = s
			}
		}
		table, key := setting.TOML[:strings.LastIndex(setting.TOML, ".")], setting.TOML[strings.LastIndex(setting.TOML, ".")+1:]
		dir := workdir(t, fmt.Sprintf("[%s]\n\n%s = %q\n", table, key, test.text))
		for where, sources := range map[string]host.Sources{
			"--" + setting.Name: {Flags: map[string]string{setting.Name: test.text}},
			setting.Env[0]:      {Getenv: variables(setting.Env[0], test.text)},
			dir + "/supabase/config.toml:3: " + setting.TOML: {Workdir: dir},
		} {
			sources.Mode = host.Serve
			_, err := host.Load(sources)
			if err == nil || !strings.HasPrefix(err.Error(), where+": ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", where, err, test.want)
				continue
			}
			for _, secret := range []string{"hunter2", local.ServiceRoleKey, local.AnonKey, local.SecretKey, "short"} {
				if setting.Name != "jwt-secret" && secret == "short" {
					continue
				}
				if rest := strings.ReplaceAll(err.Error(), "too short", ""); strings.Contains(rest, secret) {
					t.Errorf("%s: the error shows the secret: %v", where, err)
				}
			}
			values, err := host.Explain(sources)
			if err == nil || len(values) != len(host.Settings(host.Serve)) {
				t.Errorf("%s: Explain gave %d values, %v", where, len(values), err)
			}
		}
	}
}

// TestProjectFile: a project's whole config.toml, and what is odd in one.
func TestProjectFile(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile("../supabase/testdata/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := workdir(t, string(whole))
	const secret = "a secret of the shop, and a long one"
	c, err := host.Load(host.Sources{Mode: host.Dev, Workdir: dir, Getenv: variables("SHOP_JWT_SECRET", secret)})
	if err != nil || c.Port != 8000 || c.DBPort != 55432 || c.Keys.JWTSecret != secret || len(c.Functions) != 5 || len(c.Warnings) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if c.Keys.AnonKey == keys.Local().AnonKey || c.Keys.AnonKey == "" {
		t.Errorf("the anon key is not one of the project's secret: %s", c.Keys.AnonKey)
	}
	_, err = host.Load(host.Sources{Mode: host.Dev, Workdir: dir})
	if want := dir + "/supabase/config.toml:91: auth.jwt_secret: the environment variable SHOP_JWT_SECRET is not set, and no .env file of the project has it"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	for text, want := range map[string]string{
		"[api]\nport = [1]":                  ":2: api.port: want one value, not a list",
		"[api]\nport = \"env(NO_SUCH)\"":     ":2: api.port: the environment variable NO_SUCH is not set",
		"[api]\nport = \n":                   ":2:8: ",
		"[functions.x]\nverify_jwt = \"no\"": `:2: functions.x.verify_jwt: "no" is neither`,
	} {
		dir := workdir(t, text)
		if _, err := host.Load(host.Sources{Mode: host.Dev, Workdir: dir}); err == nil || !strings.HasPrefix(err.Error(), dir+"/supabase/config.toml"+want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := host.Load(host.Sources{Mode: host.Dev, Workdir: "/nonexistent"}); err == nil || !strings.Contains(err.Error(), "there is no /nonexistent/supabase/config.toml") {
		t.Errorf("no such directory: %v", err)
	}
}

func TestMisspelt(t *testing.T) {
	t.Parallel()
	dir := workdir(t, "[api]\nprot = 1\n[amber]\ndrian = \"4s\"\ndb_port = 1\nlisten = \"::1\"\nfriends = 3\n")
	c, err := host.Load(host.Sources{Mode: host.Serve, Workdir: dir,
		Environ: []string{"AMBER_PROT=1", "AMBER_PORT=1", "AMBER_DB_PORT=2", "AMBER_KEY=k", "AMBER_TEST_X=1", "HOME=/", "AMBER_EVERYTHING_ELSE=1"}})
	file := dir + "/supabase/config.toml"
	want := []string{
		"AMBER_PROT means nothing to amber; did you mean AMBER_PORT?",
		"AMBER_EVERYTHING_ELSE means nothing to amber",
		file + ":4: amber.drian means nothing to amber; did you mean amber.drain?",
		file + ":5: amber.db_port means nothing to amber; did you mean db.port?",
		file + ":7: amber.friends means nothing to amber",
	}
	if err != nil || !slices.Equal(c.Warnings, want) {
		t.Errorf("%q, %v", c.Warnings, err)
	}
}

// TestSecrets: what Explain shows can be read aloud.
func TestSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	one, two := newKey(t, "one"), newKey(t, "two")
	if err := os.WriteFile(file, []byte(two+","+one+"\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"database-url", "postgres://app:hunter2@db.example.com:6543/x?sslmode=require", "postgres://app:(hidden)@db.example.com:6543/x?sslmode=require"},
		{"database-url", "postgres://db.example.com/x?user=a&password=hunter2&sslmode=require", "postgres://db.example.com/x?user=a&password=(hidden)&sslmode=require"},
		{"database-url", "host=db.example.com password='hunter2 \\' hunter2' user=a", "host=db.example.com password=(hidden) user=a"},
		{"database-url", "host=db.example.com password = hunter2", "host=db.example.com password = (hidden)"},
		{"jwt-secret", "hunter2-hunter2-hunter2", "(hidden)"},
		{"service-role-key", keys.Local().ServiceRoleKey, "(hidden)"},
		{"secret-key", keys.Local().SecretKey, "(hidden)"},
		{"anon-key", keys.Local().AnonKey, keys.Local().AnonKey},
		{"amber-keys", one + ", " + two, "one:(hidden),two:(hidden)"},
		{"amber-keys", "@" + file, "@" + file},
	} {
		values, err := host.Explain(host.Sources{Mode: host.Serve, Flags: map[string]string{test.name: test.text}})
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		for _, v := range values {
			if v.Name == test.name && (v.Text != test.want || v.Source != "--"+test.name) {
				t.Errorf("%s: %s from %s, want %s", test.name, v.Text, v.Source, test.want)
			}
		}
	}
	// What cannot be read may be a secret in the wrong place.
	for name, text := range map[string]string{"amber-keys": strings.TrimPrefix(one, "one:"), "database-url": "postgres://a:hunter2@[::1"} {
		values, err := host.Explain(host.Sources{Mode: host.Serve, Flags: map[string]string{name: text}})
		if all := fmt.Sprint(values, err); err == nil || strings.Contains(all, text) || strings.Contains(all, "hunter2") {
			t.Errorf("%s: %s", name, all)
		}
	}
	c, err := host.Load(host.Sources{Mode: host.Serve, Flags: map[string]string{"amber-keys": "@" + file}})
	if err != nil || c.AmberKeys != two+","+one {
		t.Errorf("keys of a file: %q, %v", c.AmberKeys, err)
	}
}

func TestProjectKeys(t *testing.T) {
	t.Parallel()
	secret := func(s string) string { return "sb_secret_" + strings.Repeat(s, 24) }
	public := func(s string) string { return "sb_publishable_" + strings.Repeat(s, 24) }
	c, err := host.Load(host.Sources{Mode: host.Serve, Getenv: variables(
		"SUPABASE_ANON_KEY", public("z"), // where newer projects put it
		"SUPABASE_SECRET_KEYS", `{"ci":"`+secret("b")+`","default":"`+secret("a")+`","old":"`+secret("c")+`"}`,
		"SUPABASE_PUBLISHABLE_KEYS", public("x")+", "+public("y"))})
	want := keys.Set{PublishableKey: public("z"), SecretKey: secret("a")}
	more := []keys.Set{{PublishableKey: public("x")}, {PublishableKey: public("y")}, {SecretKey: secret("b")}, {SecretKey: secret("c")}}
	if err != nil || c.Keys != want || !slices.Equal(c.MoreKeys, more) {
		t.Errorf("%+v, %+v, %v", c.Keys, c.MoreKeys, err)
	}
	c, err = host.Load(host.Sources{Mode: host.Serve, Getenv: variables("EXT_SUPABASE_JWT_SECRET", keys.Local().JWTSecret)})
	local := keys.Local()
	if err != nil || c.Keys.AnonKey != local.AnonKey || c.Keys.ServiceRoleKey != local.ServiceRoleKey || c.Keys.SecretKey != "" {
		t.Errorf("from the JWT secret: %+v, %v", c.Keys, err)
	}
}

// TestCheck: what a host does not serve with.
func TestCheck(t *testing.T) {
	t.Parallel()
	all := map[string]string{"database-url": "postgres://db.example.com/x", "jwt-secret": "a secret that nobody else has", "amber-keys": newKey(t, "k")}
	for _, test := range []struct {
		change map[string]string
		want   string // "" for nothing to refuse
	}{
		{nil, ""},
		{map[string]string{"listen": "0.0.0.0"}, ""},
		{map[string]string{"database-url": ""}, "set DATABASE_URL"},
		{map[string]string{"jwt-secret": "-"}, "SUPABASE_JWT_SECRET"},
		{map[string]string{"jwt-secret": "-", "anon-key": keys.Local().AnonKey}, "SUPABASE_JWT_SECRET"},
		{map[string]string{"jwt-secret": "-", "secret-key": "sb_secret_" + strings.Repeat("x", 24)}, ""},
		{map[string]string{"amber-keys": "-"}, "`amber keys new`"},
		{map[string]string{"tasks": "/nonexistent/tasks"}, "--tasks: there is no directory /nonexistent/tasks"},
		{map[string]string{"jwt-secret": keys.Local().JWTSecret, "listen": "0.0.0.0", "amber-keys": "-", "database-url": "", "tasks": "/dev/null"},
			"4 settings are missing or wrong:\n  --tasks: /dev/null is a file: name the directory of the tasks\n  no database: "},
		{map[string]string{"jwt-secret": keys.Local().JWTSecret}, ""},
		{map[string]string{"jwt-secret": keys.Local().JWTSecret, "listen": "::1"}, ""},
		{map[string]string{"jwt-secret": keys.Local().JWTSecret, "listen": "0.0.0.0"}, "the JWT secret is the one that every local Supabase project has"},
		{map[string]string{"service-role-key": keys.Local().ServiceRoleKey, "listen": "::"}, "the service_role key is"},
		{map[string]string{"secret-key": "sb_secret_" + strings.Repeat("x", 24) + "," + keys.Local().SecretKey, "listen": "10.0.0.7"}, "the secret key is"},
	} {
		flags := map[string]string{}
		for name, text := range all {
			flags[name] = text
		}
		for name, text := range test.change {
			flags[name] = text
			if text == "-" {
				delete(flags, name)
			}
		}
		c, err := host.Load(host.Sources{Mode: host.Serve, Flags: flags})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.change, err, test.want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // for a host that serves, or waits for its database
		if test.want != "" && (host.New(c).Run(ctx) == nil || ctx.Err() != nil) {
			t.Errorf("%v: Run began", test.change)
		}
		cancel()
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1": 1, "10kb": 10 << 10, "16MiB": 16 << 20, "2 G": 2 << 30, "500K": 500 << 10} {
		c, err := host.Load(host.Sources{Mode: host.Serve, Flags: map[string]string{"body-limit": text}})
		if err != nil || c.BodyLimit != want {
			t.Errorf("%s: %d, %v", text, c.BodyLimit, err)
		}
	}
	c, err := host.Load(host.Sources{Mode: host.Serve, Flags: map[string]string{"drain": "1m30s", "log-level": "WARN"}})
	if err != nil || c.Drain != 90*time.Second || c.LogLevel.String() != "WARN" {
		t.Errorf("%v %v %v", c.Drain, c.LogLevel, err)
	}
}

// TestForeignDatabase: a DATABASE_URL is taken only if it leads nowhere else.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	for url, foreign := range map[string]string{
		"postgres://postgres:secret@127.0.0.1:5432/postgres":           "",
		"postgres://localhost/app?pool_max_conns=4":                    "",
		"postgres://localhost/app?pgbouncer=true&connection_limit=1":   "",
		"postgres://[::1]:5432/app":                                    "",
		"postgres:///app?host=/var/run/postgresql":                     "",
		"host=/var/run/postgresql dbname=app":                          "",
		"postgres://app:secret@db.example.com:6543/app":                "db.example.com",
		"host=10.0.0.7 password=secret":                                "10.0.0.7",
		"postgres://app:secret@localhost,db.example.com/app":           "db.example.com",
		"postgres://app:secret@127.0.0.1/app?host=db.example.com":      "db.example.com",
		"postgres://app:secret@127.0.0.1.example.com/app?sslmode=none": "DATABASE_URL: ",
	} {
		_, err := fromEnv("DATABASE_URL", url)
		switch {
		case foreign == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case foreign != "" && (err == nil || !strings.Contains(err.Error(), foreign)):
			t.Errorf("%s: %v, want a refusal of %s", url, err, foreign)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("the error shows the password: %v", err)
		}
		if _, err := host.Load(host.Sources{Mode: host.Dev, Flags: map[string]string{"database-url": url}}); err != nil && foreign != "DATABASE_URL: " {
			t.Errorf("--database-url %s: %v", url, err)
		}
	}
}
