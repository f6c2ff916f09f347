package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amberhost/amber/host"
)

// TestEnvFiles is the table of what env(NAME) in config.toml stands for, and
// where amber config says that it is. DIR is the project's directory.
func TestEnvFiles(t *testing.T) {
	t.Parallel()
	const config = "DIR/supabase/config.toml"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		env    []string
		text   string // of the port that is in force, and
		source string // where it is from; or
		wrong  string // the error
	}{
		{"the environment", map[string]string{"supabase/.env": "PORT=1\n"}, []string{"PORT", "2"}, "2", config + ":2", ""},
		{"supabase/.env", map[string]string{"supabase/.env": "# ports\n\nPORT=1\n", ".env": "PORT=2\n"}, nil, "1", "DIR/supabase/.env:3", ""},
		{".env of the project", map[string]string{"supabase/.env": "A=1\n", ".env": "A=1\nPORT=2\n"}, nil, "2", "DIR/.env:2", ""},
		{".env.local", map[string]string{"supabase/.env": "PORT=1\n", "supabase/.env.local": "PORT=2\n"}, nil, "2", "DIR/supabase/.env.local:1", ""},
		{"development is meant", map[string]string{".env.development": "PORT=1\n", ".env.production": "PORT=2\n"}, nil, "1", "DIR/.env.development:1", ""},
		{"unless SUPABASE_ENV says another", map[string]string{".env.development": "PORT=1\n", ".env.production": "PORT=2\n"},
			[]string{"SUPABASE_ENV", "production"}, "2", "DIR/.env.production:1", ""},
		{"a variable of amber's counts more", map[string]string{"supabase/.env": "PORT=1\n"}, []string{"AMBER_PORT", "3"}, "3", "AMBER_PORT", ""},
		{"nowhere", map[string]string{"supabase/.env": "PROT=1\n"}, nil, "", config + ":2",
			config + ":2: api.port: the environment variable PORT is not set, and no .env file of the project has it"},
		{"empty", map[string]string{"supabase/.env": "A=1\nPORT=\n", ".env": "PORT=2\n"}, nil, "", config + ":2",
			config + ":2: api.port: the environment variable PORT is not set, and empty at DIR/supabase/.env:2"},
		{"wrong", map[string]string{".env": "\nPORT=web\n"}, nil, "web", "DIR/.env:2", `DIR/.env:2: PORT: "web" is not a port: want a number from 0 to 65535`},
		{"broken", map[string]string{"supabase/.env": "PORT=1\nhunter2\n"}, nil, "", config + ":2", "DIR/supabase/.env:2: want NAME=value"},
		{"broken, and another has it", map[string]string{"supabase/.env": "PORT=1\n", ".env": "A='hunter2\n"}, nil, "", config + ":2",
			"DIR/.env:1: the quote that begins in this line is not closed"},
		{"broken, and nothing asks for it", map[string]string{".env": "hunter2\n"}, []string{"PORT", "2"}, "2", config + ":2", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := workdir(t, "[api]\nport = \"env(PORT)\"\n")
			for name, text := range tt.files {
				write(t, dir, name, text)
			}
			values, err := host.Explain(host.Sources{Mode: host.Serve, Workdir: dir, Getenv: variables(tt.env...)})
			if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || err.Error() != strings.ReplaceAll(tt.wrong, "DIR", dir)) {
				t.Errorf("%v, want %q", err, tt.wrong)
			}
			for _, v := range values {
				if v.Name == "port" && (v.Text != tt.text || v.Source != strings.ReplaceAll(tt.source, "DIR", dir)) {
					t.Errorf("port: %q from %s, want %q from %s", v.Text, v.Source, tt.text, tt.source)
				}
			}
		})
	}
}

// TestEnvFilesAreForConfig: they give what config.toml asks for, hide what is
// secret, and are no environment of the host.
func TestEnvFilesAreForConfig(t *testing.T) {
	t.Parallel()
	dir := workdir(t, "[auth]\njwt_secret = \"env(SECRET)\"\n")
	write(t, dir, "supabase/.env", "SECRET=hunter2-hunter2-hunter2\nAMBER_PORT=1\nSUPABASE_URL=https://x.example.com\nAMBER_TSAKS=x\n")
	sources := host.Sources{Mode: host.Serve, Workdir: dir, Getenv: variables()}
	c, err := host.Load(sources)
	if err != nil || c.Keys.JWTSecret != "hunter2-hunter2-hunter2" || c.Port != host.DefaultPort || c.ProjectURL != "" || len(c.Warnings) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if os.Getenv("SECRET") != "" {
		t.Error("the file is in the environment")
	}
	values, err := host.Explain(sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if strings.Contains(v.Text+v.Source, "hunter2") || v.Name == "jwt-secret" && (v.Text != "(hidden)" || v.Source != filepath.Join(dir, "supabase/.env:1")) {
			t.Errorf("%s: %s from %s", v.Name, v.Text, v.Source)
		}
	}
}
