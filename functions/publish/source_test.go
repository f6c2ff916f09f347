package publish_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/service"
)

func TestDescription(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, code, want string }{
		{"block", "/**\n * Adds.\n *\n *   Two numbers.\n * @param {number} a - one\n */\nmodule.exports = 1", "Adds.\n\nTwo numbers.\n@param {number} a - one"},
		{"one line", "/** Adds. */ x", "Adds."},
		{"the first counts", "/* no */ // no\n/** one */ /** two */", "one"},
		{"CRLF", "/**\r\n * a\r\n * b\r\n */", "a\nb"},
		{"no asterisks", "/**\n  a\n  b\n*/", "a\nb"},
		{"none", "/* a */ module.exports = 1", "Task: t"},
		{"empty comment", "/**/ x /* y */", "Task: t"},
		{"empty block", "/** */ x", "Task: t"},
		{"never closed", "/** x", "Task: t"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := publish.Description("t", test.code); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{}
	for _, name := range []string{
		"b.js", "a.mjs", "sub/c.js", "sub/deep/d.js", "x.ts", "sub/y.mts", "types.d.ts", ".z.ts", "README.md", ".hidden.js", ".git/e.js",
		"node_modules/f.js", "sub/node_modules/g/h.js", "i.js.swp", "j.js~", "k.json",
	} {
		fsys[name] = &fstest.MapFile{Data: []byte("1")}
	}
	got, err := publish.List(fsys)
	if err != nil {
		t.Fatal(err)
	}
	want := publish.Listing{
		Files:      []string{"a.mjs", "b.js", "sub/c.js", "sub/deep/d.js"},
		Dirs:       []string{".", "sub", "sub/deep"},
		TypeScript: []string{"sub/y.mts", "x.ts"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"sub/two.words.js": {Data: []byte("\ufeff/** Says. */ 1")},
		"big.js":           {Data: []byte(strings.Repeat("x", publish.MaxCode+1))},
	}
	got, err := publish.Read(fsys, "sub/two.words.js")
	want := publish.Source{Name: "two.words", Code: "/** Says. */ 1", Description: "Says."}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	var refused *service.Error
	if _, err := publish.Read(fsys, "big.js"); !errors.As(err, &refused) {
		t.Errorf("big file: %v", err)
	}
}
