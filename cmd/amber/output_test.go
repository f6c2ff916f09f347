package main

import (
	"bytes"
	"errors"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWantedBeforeParsing(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]output{
		"runs":                   outputText,
		"runs -o json --frob":    outputJSON,
		"--frob -ojson runs":     outputJSON,
		"runs --output=json":     outputJSON,
		"runs --output json":     outputJSON,
		"runs -o text":           outputText,
		"status -o env --frob":   outputText,
		"runs -o":                outputText,
		"run -- -o json":         outputText,
		"run hello --input json": outputText,
	} {
		if got := wanted(strings.Fields(line)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// TestColours: on a terminal, unless the environment is against it.
func TestColours(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		"terminal":          {terminal: true, want: true},
		"no terminal":       {},
		"NO_COLOR":          {terminal: true, env: map[string]string{"NO_COLOR": "1"}},
		"NO_COLOR is empty": {terminal: true, env: map[string]string{"NO_COLOR": ""}, want: true},
		"dumb":              {terminal: true, env: map[string]string{"TERM": "dumb"}},
	} {
		p := &program{stdout: &bytes.Buffer{}, getenv: env(test.env)}
		if test.terminal {
			p.stdout = &glass{width: 80, height: 24}
		}
		if got := p.colours(p.stdout); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestCommandsAreDocumented: each has a help with an example, and takes no
// argument or flag in silence that it does not know.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	root := (&program{getenv: noEnv}).rootCommand()
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Example == "" || c.Short == "" || c.Long == "" && c.Name() != "help" {
			t.Errorf("%s: short %q, long %q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		if c.Args == nil && c.Name() != "help" {
			t.Errorf("%s does not check its arguments", c.CommandPath())
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of the help has %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
		if code, _, stderr := amber(t, append(strings.Fields(c.CommandPath())[1:], "--frob")...); code != exitUsage || !strings.Contains(stderr, "unknown flag: --frob") {
			t.Errorf("%s --frob: exit %d, %s", c.CommandPath(), code, stderr)
		}
		for _, below := range c.Commands() {
			visit(below)
		}
	}
	visit(root)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code string
		exit int
	}{
		"the host's own code": {&apiError{Status: 404, Message: "no", Code: "TASK_NOT_FOUND"}, "TASK_NOT_FOUND", exitFailed},
		"a host without one":  {&apiError{Status: 502}, codeFailed, exitFailed},
		"stuck":               {&stuckError{"1", "key"}, codeStuck, exitFailed},
		"anything":            {errors.New("disk full"), codeFailed, exitFailed},
		"no host":             {&unreachableError{"http://127.0.0.1:1", errors.New("refused")}, codeNoHost, exitUnreachable},
		"usage":               {usagef(&cobra.Command{Use: "x"}, "no"), codeUsage, exitUsage},
		"worded":              {&exitError{"text", "MINE", 130}, "MINE", 130},
	} {
		if e := describe(hint(test.err)); e.code != test.code || e.exit != test.exit {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestEnvText(t *testing.T) {
	t.Parallel()
	got := envText([]namedValue{{"A", "", "http://x"}, {"B", "", `it's "$HOME"`}, {"C", "", "two\nlines"}, {"D", "", "a b"}})
	want := "A=\"http://x\"\nB='it'\\''s \"$HOME\"'\nC='two\nlines'\nD=\"a b\"\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.99", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.time", Value: "2026-11-24T00:00:00Z"}, {Key: "vcs.modified", Value: "true"},
		{Key: "GOOS", Value: "plan9"}, {Key: "GOARCH", Value: "mips"},
	}}
	text := versionOf(info).text()
	for _, want := range []string{"amber v1.2.3\n", "commit 0123abc (2026-11-24T00:00:00Z, modified)\n", "go1.99 plan9/mips\n", "\nengine "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := versionOf(nil).text(); !strings.HasPrefix(text, "amber unknown\nengine ") {
		t.Errorf("without build info:\n%s", text)
	}
}
