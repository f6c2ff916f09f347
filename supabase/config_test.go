package supabase_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/amberhost/amber/supabase"
)

const project = "testdata/config.toml"

// TestRead reads a project's whole file, and finds each value where it stands.
func TestRead(t *testing.T) {
	t.Parallel()
	c, err := supabase.Read(project)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]supabase.Value{
		"project_id":                           {Text: "corner-shop"},
		"api.enabled":                          {Text: "true"},
		"api.port":                             {Text: "8000"},
		"api.schemas":                          {List: true},
		"api.max_rows":                         {Text: "1000"},
		"db.port":                              {Text: "55432"},
		"auth.jwt_secret":                      {Text: "env(SHOP_JWT_SECRET)", Env: "SHOP_JWT_SECRET"},
		"auth.email.max_frequency":             {Text: "1s"},
		"auth.email.template.invite.subject":   {Text: `You have been "invited"`},
		"auth.sms.test_otp.4152127777":         {Text: "123456"},
		"functions.stack-processor.enabled":    {Text: "false"},
		"functions.wrappedkeystore.verify_jwt": {Text: "false"},
		"functions.webhook.verify_jwt":         {Text: "false"},
		"remotes.production.api.port":          {Text: "443"},
		"remotes_of_old.rate":                  {Text: "0.5"},
	} {
		got, ok := c.Value(path)
		want.Path, want.File, want.Line = path, project, lineOf(t, path)
		if !ok || got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if v, ok := c.Value("api.prot"); ok {
		t.Errorf("found %+v", v)
	}
	if v, _ := c.Value("api.port"); v.Where() != "testdata/config.toml:8" {
		t.Errorf("api.port is at %s", v.Where())
	}
	var paths []string
	for _, v := range c.Below("db.pooler") {
		paths = append(paths, v.Path)
	}
	if want := []string{"db.pooler.enabled", "db.pooler.port", "db.pooler.pool_mode", "db.pooler.default_pool_size", "db.pooler.max_client_conn"}; !slices.Equal(paths, want) {
		t.Errorf("below db.pooler: %q", paths)
	}
}

// lineOf finds the line of a path by other means: the first one with its last
// word, as a key, below the header of its table.
func lineOf(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(project)
	if err != nil {
		t.Fatal(err)
	}
	table, key, line := "", "", 0
	if i := strings.LastIndex(path, "."); i >= 0 {
		table, key = path[:i], path[i+1:]
	} else {
		key = path
	}
	here := ""
	for text := range bytes.Lines(text) {
		line++
		s := strings.TrimSpace(string(text))
		if strings.HasPrefix(s, "[") {
			here = strings.ReplaceAll(strings.Trim(s, "[]"), `"`, "")
		}
		inTable := here == table || strings.HasPrefix(s, strings.TrimPrefix(table, here+".")) && strings.HasPrefix(table, here)
		if inTable && (strings.HasPrefix(s, key+" =") || strings.Contains(s, " "+key+" =") || strings.Contains(s, "."+key+" =")) {
			return line
		}
	}
	t.Fatalf("%s is nowhere", path)
	return 0
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	c, err := supabase.Read(project)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Functions()
	want := []supabase.Function{
		{Name: "quickjs", Open: true, Where: project + ":196"},
		{Name: "tasks"},
		{Name: "stack-processor", Disabled: true},
		{Name: "wrappedkeystore", Open: true, Where: project + ":208"},
		{Name: "webhook", Open: true, Where: project + ":209"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Functions: %+v, %v", got, err)
	}
	if list, err := new(supabase.Config).Functions(); err != nil || len(list) != 0 {
		t.Errorf("of no file: %v, %v", list, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[api]\nport = \n":                     "c.toml:2:8: ",
		"[api]\nport = 1\nport = 2\n":          "c.toml:3:1: ",
		"[api\n":                               "c.toml:1:",
		"a = \"\xff\"":                         "c.toml:1:",
		"[functions.x]\n\nverify_jwt = \"no\"": `c.toml:3: functions.x.verify_jwt: "no" is neither true nor false`,
		"[functions.x]\nverify_jwt = [false]":  `c.toml:2: functions.x.verify_jwt: `,
		"[functions]\nx = { enabled = 0 }":     `c.toml:2: functions.x.enabled: "0" is neither true nor false`,
	} {
		c, err := supabase.Parse("c.toml", []byte(text))
		if err == nil {
			_, err = c.Functions()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := supabase.Read("nosuch.toml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	pipe := t.TempDir() + "/config.toml"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := supabase.Read(pipe); err == nil || !strings.Contains(err.Error(), pipe+" is no regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
