package examples_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/amberhost/amber/examples"
)

// Each example says what it is, and README.md lists it with its module style.
func TestExamplesAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	styles := map[string]*regexp.Regexp{
		"`module.exports =`":         regexp.MustCompile(`(?m)^module\.exports = `),
		"`module.exports.default =`": regexp.MustCompile(`(?m)^module\.exports\.default = `),
		"`exports.default =`":        regexp.MustCompile(`(?m)^exports\.default = `),
		"`export default`":           regexp.MustCompile(`(?m)^export default `),
		"`export function runTask`":  regexp.MustCompile(`(?m)^export (async )?function runTask\(`),
	}
	seen := make(map[string]bool)
	files, err := fs.Glob(examples.Tasks, "tasks/*.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		code, err := fs.ReadFile(examples.Tasks, file)
		if err != nil {
			t.Fatal(err)
		}
		head, _, ok := strings.Cut(string(code), "*/")
		if !ok || !strings.HasPrefix(head, "/**\n") || !strings.Contains(head, "Input") || !strings.Contains(head, "Result:") {
			t.Errorf("%s does not begin with what it shows, its input and its result", file)
		}
		row := regexp.MustCompile(`(?m)^\| \[[a-z-]+\]\(` + regexp.QuoteMeta(file) + `\) .*$`).FindString(string(readme))
		for style, pattern := range styles {
			if pattern.Match(code) {
				seen[style] = true
				if !strings.Contains(row, "| "+style+" |") {
					t.Errorf("README.md does not list %s as %s", file, style)
				}
			}
		}
	}
	for style := range styles {
		if !seen[style] {
			t.Errorf("no example of %s", style)
		}
	}
}
