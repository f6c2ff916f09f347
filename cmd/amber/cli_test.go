package main

import (
	"strings"
	"testing"
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
		"help of dev":        {[]string{"dev", "--help"}, 0, []string{"Examples:\n  amber dev\n", "--db-port", "AMBER_DATA"}},
		"help of publish":    {[]string{"publish", "--help"}, 0, []string{"Examples:", "amber publish hello.js", "--key"}},
		"help of run":        {[]string{"help", "run"}, 0, []string{"Examples:", "--input", "Exit status"}},
		"near command":       {[]string{"rum"}, exitUsage, []string{`unknown command "rum"; did you mean "run"?`, "See `amber --help`"}},
		"no such command":    {[]string{"frobnicate"}, exitUsage, []string{`unknown command "frobnicate"`}},
		"no such flag":       {[]string{"run", "x", "--frob"}, exitUsage, []string{"unknown flag: --frob", "See `amber run --help`"}},
		"no task":            {[]string{"run"}, exitUsage, []string{"the name of one task"}},
		"input not JSON":     {[]string{"run", "x", "--input", "{a:1}"}, exitUsage, []string{"--input: not JSON"}},
		"input twice":        {[]string{"run", "x", "--input", "1 2"}, exitUsage, []string{"--input: not JSON"}},
		"no input file":      {[]string{"run", "x", "--input", "@/no/such"}, exitUsage, []string{"--input", "/no/such"}},
		"not a URL":          {[]string{"run", "x", "--url", "localhost:1"}, exitUsage, []string{"looks like http://127.0.0.1:54321"}},
		"no key":             {[]string{"run", "x", "--url", "https://amber.example.com"}, exitUsage, []string{"AMBER_KEY"}},
		"nothing to publish": {[]string{"publish"}, exitUsage, []string{"at least one file"}},
		"no such file":       {[]string{"publish", "/no/such.js"}, exitUsage, []string{"/no/such.js"}},
		"not a task":         {[]string{"publish", "cli.go"}, exitUsage, []string{".js or .mjs"}},
		"no tasks below":     {[]string{"publish", "."}, exitUsage, []string{"no .js or .mjs file below"}},
		"two directories":    {[]string{"dev", "a", "b"}, exitUsage, []string{"one directory"}},
		"no directory":       {[]string{"dev", "/no/such"}, exitUsage, []string{"no directory /no/such"}},
		"not a port":         {[]string{"dev", "--port", "70000"}, exitUsage, []string{"70000"}},
		"port not a number":  {[]string{"dev", "--port", "web"}, exitUsage, []string{"--port"}},
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
		base, err := (&target{url: test.flag}).base(func(k string) string { return test.env[k] })
		if err != nil || base.String() != test.want {
			t.Errorf("%s: %v, %v; want %s", name, base, err, test.want)
		}
	}
}
