package main

import (
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/supabase/keys"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		code int
		want []string // in stderr, or in stdout when code is 0
	}{
		"alone":              {nil, 0, []string{"Usage:", "Examples:", "dev", "publish", "run"}},
		"help":               {[]string{"--help"}, 0, []string{"Examples:"}},
		"help of dev":        {[]string{"dev", "--help"}, 0, []string{"Examples:\n  amber dev\n", "--db-port number", "(default 54322)", "AMBER_DATA", "--database-url", "DATABASE_URL that names another is refused"}},
		"help of publish":    {[]string{"publish", "--help"}, 0, []string{"Examples:", "amber publish hello.js", "--key"}},
		"help of run":        {[]string{"help", "run"}, 0, []string{"Examples:", "--input", "(default: none, which the task sees as {})", "Exit status"}},
		"near command":       {[]string{"rum"}, exitUsage, []string{`unknown command "rum"; did you mean "run"?`, "See `amber --help`"}},
		"no such command":    {[]string{"frobnicate"}, exitUsage, []string{`unknown command "frobnicate"`}},
		"no such flag":       {[]string{"run", "x", "--frob"}, exitUsage, []string{"unknown flag: --frob", "See `amber run --help`"}},
		"no task":            {[]string{"run"}, exitUsage, []string{"the name of one task"}},
		"input not JSON":     {[]string{"run", "x", "--input", "{a:1}"}, exitUsage, []string{"--input is not JSON (invalid character", "): a string needs quotes, --input '\"hello\"'\n"}},
		"input twice":        {[]string{"run", "x", "--input", "1 2"}, exitUsage, []string{"--input is not JSON"}},
		"file not JSON":      {[]string{"run", "x", "--input", "@cli.go"}, exitUsage, []string{"amber: cli.go is not JSON: "}},
		"nothing on stdin":   {[]string{"run", "x", "--input", "-"}, exitUsage, []string{"nothing came on standard input"}},
		"no file's name":     {[]string{"run", "x", "--input", "@"}, exitUsage, []string{"--input @FILE: give the file's name after @"}},
		"no name":            {[]string{"run", ""}, exitUsage, []string{"the name of the task is empty"}},
		"no input file":      {[]string{"run", "x", "--input", "@/no/such"}, exitUsage, []string{"--input", "/no/such"}},
		"not a URL":          {[]string{"run", "x", "--url", "localhost:1"}, exitUsage, []string{"looks like http://127.0.0.1:54321"}},
		"no key":             {[]string{"run", "x", "--url", "https://amber.example.com"}, exitUsage, []string{"AMBER_KEY"}},
		"nothing to publish": {[]string{"publish"}, exitUsage, []string{"at least one file"}},
		"no such file":       {[]string{"publish", "/no/such.js"}, exitUsage, []string{"/no/such.js"}},
		"not a task":         {[]string{"publish", "cli.go"}, exitUsage, []string{".js or .mjs"}},
		"no tasks below":     {[]string{"publish", "."}, exitUsage, []string{"no .js or .mjs file below"}},
		"two directories":    {[]string{"dev", "a", "b"}, exitUsage, []string{"one directory"}},
		"no directory":       {[]string{"dev", "/no/such"}, exitUsage, []string{"no directory /no/such"}},
		"not a port":         {[]string{"dev", "--port", "70000"}, exitUsage, []string{`--port: "70000" is not a port: want a number from 0 to 65535`}},
		"port not a number":  {[]string{"dev", "--port", "web"}, exitUsage, []string{`--port: "web" is not a port: want a number from 0 to 65535`}},
		"nor that":           {[]string{"dev", "--db-port", "-1"}, exitUsage, []string{`--db-port: "-1" is not a port`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := amber(t, test.args...)
			text := stderr
			if test.code == 0 {
				text = stdout
			}
			if code != test.code {
				t.Errorf("exit %d, want %d: %s%s", code, test.code, stdout, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
		})
	}
}

func TestNoHost(t *testing.T) {
	t.Parallel()
	url := "http://" + closedPort(t)
	for _, args := range [][]string{{"run", "hello"}, {"publish", "../../examples/tasks/hello.js"}} {
		code, stdout, stderr := amber(t, append(args, "--url", url)...)
		if code != exitUnreachable || stdout != "" {
			t.Errorf("%v: exit %d, stdout %q", args, code, stdout)
		}
		for _, want := range []string{"no host answers at " + url, "go run ./cmd/amber dev", "--url"} {
			if !strings.Contains(stderr, want) {
				t.Errorf("no %q in\n%s", want, stderr)
			}
		}
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flag string
		env  map[string]string
		want string
	}{
		"default":        {want: "http://127.0.0.1:54321"},
		"port":           {env: map[string]string{"AMBER_PORT": "8000"}, want: "http://127.0.0.1:8000"},
		"supabase":       {env: map[string]string{"AMBER_PORT": "8000", "SUPABASE_URL": "http://localhost:1"}, want: "http://localhost:1"},
		"amber":          {env: map[string]string{"AMBER_URL": "http://localhost:2", "SUPABASE_URL": "http://localhost:1"}, want: "http://localhost:2"},
		"flag":           {flag: "http://localhost:3/", env: map[string]string{"AMBER_URL": "http://localhost:2"}, want: "http://localhost:3"},
		"functions":      {flag: "http://localhost:3/functions/v1/", want: "http://localhost:3"},
		"behind a proxy": {flag: "https://example.com/amber/", want: "https://example.com/amber"},
	} {
		base, err := (&target{url: test.flag}).base(env(test.env))
		if err != nil || base.String() != test.want {
			t.Errorf("%s: %v, %v; want %s", name, base, err, test.want)
		}
	}
}

func TestNotAPort(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"abc", "0", "65536"} {
		var stderr bytes.Buffer
		code := run(t.Context(), []string{"run", "hello"}, strings.NewReader(""), io.Discard, &stderr, env(map[string]string{"AMBER_PORT": port}))
		if want := `AMBER_PORT: "` + port + `" is not a port: want a number from 1 to 65535`; code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit %d, no %q in %s", code, want, &stderr)
		}
	}
}

// TestKeyStaysAtItsURL: a key is sent to the host it is for, and to this machine.
func TestKeyStaysAtItsURL(t *testing.T) {
	t.Parallel()
	both := map[string]string{"AMBER_KEY": "ours", "SUPABASE_SERVICE_ROLE_KEY": "theirs"}
	const here, there = "http://127.0.0.1:1", "https://example.com"
	for name, test := range map[string]struct {
		host  target
		env   map[string]string
		urls  map[string]string
		key   string // "" for a refusal
		again string
	}{
		"--key":                     {host: target{url: there, key: "given"}, env: both, key: "given", again: " --url https://example.com --key YOUR-KEY"},
		"--url":                     {host: target{url: there}, env: both, key: "ours"},
		"--url beside SUPABASE_URL": {host: target{url: there}, env: both, urls: map[string]string{"SUPABASE_URL": "https://p.supabase.co"}, key: "ours"},
		"AMBER_URL":                 {env: both, urls: map[string]string{"AMBER_URL": there, "SUPABASE_URL": "https://p.supabase.co"}, key: "ours"},
		"SUPABASE_URL":              {env: both, urls: map[string]string{"SUPABASE_URL": there}, key: "theirs"},
		"SUPABASE_URL, not its key": {env: map[string]string{"AMBER_KEY": "ours"}, urls: map[string]string{"SUPABASE_URL": there}},
		"--url, not its key":        {host: target{url: there}, env: map[string]string{"SUPABASE_SERVICE_ROLE_KEY": "theirs"}},
		"AMBER_URL, not its key":    {env: map[string]string{"SUPABASE_SERVICE_ROLE_KEY": "theirs"}, urls: map[string]string{"AMBER_URL": there}},
		"here":                      {host: target{url: here}, env: map[string]string{"SUPABASE_SERVICE_ROLE_KEY": "theirs"}, key: "theirs"},
		"here, no key":              {host: target{url: here}, key: keys.Local().ServiceRoleKey},
	} {
		all := maps.Clone(test.env)
		if all == nil {
			all = make(map[string]string)
		}
		maps.Copy(all, test.urls)
		c, err := test.host.client(&cobra.Command{}, env(all))
		switch {
		case test.key == "":
			if err == nil || !strings.Contains(err.Error(), "example.com needs a key") {
				t.Errorf("%s: %+v, %v", name, c, err)
			}
		case err != nil || c.key != test.key || test.again != "" && c.again != test.again:
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestWatchAgain(t *testing.T) {
	t.Parallel()
	for want, host := range map[string]target{
		" run --follow 0197": {},
		" run --follow 0197 --url https://example.com --key YOUR-KEY": {url: "https://example.com", key: "secret"},
		" run --follow 0197 --url 'http://127.0.0.1:1/a b'":           {url: "http://127.0.0.1:1/a b"},
	} {
		c, err := host.client(&cobra.Command{}, noEnv)
		must(t, err)
		if got := c.watchAgain("0197"); got != invocation()+want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestUnreachableAdvice(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"http://127.0.0.1:54321":    "Start one with `" + invocation() + " dev`, or name another with --url.",
		"https://amber.example.com": "Is --url right?",
	} {
		if got := (&unreachableError{base: base}).advice(); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}
