package host

import (
	"fmt"
	"slices"

	"github.com/amberhost/amber/telemetry"
)

// Mode is what a host is started for.
type Mode string

// The modes.
const (
	Dev   Mode = "dev"   // one developer's machine: open, on loopback, with an embedded Postgres unless told otherwise
	Serve Mode = "serve" // a database of its own, closed to those without a key
)

// Setting is one line of the table of settings: everything that a host can be told.
type Setting struct {
	Name    string   // "database-url"; also the flag, --database-url
	Env     []string // variables that give it, the first that is set counts
	TOML    string   // "api.port": where supabase/config.toml has it; "" if it has not
	Default string   // as text for people; "" if there is none
	Help    string   // a sentence's part, without a full stop
	Secret  bool     // never shown
	Modes   []Mode   // that know it
}

// Sources are where settings come from, in falling precedence: flags, then the
// environment, then supabase/config.toml in Workdir, whose env(NAME) may mean the
// project's .env files.
type Sources struct {
	Mode    Mode
	Flags   map[string]string // by Setting.Name; only those that were given
	Getenv  func(string) string
	Environ []string // "NAME=value", to find misspelt AMBER_ names; nil looks for none
	Workdir string   // "" is the current directory, and then config.toml may be missing
}

// Value is a setting as it is in force.
type Value struct {
	Setting
	Text   string // "" for an unset one; "(hidden)" for a secret that is set
	Source string // "--port", "AMBER_PORT", "supabase/config.toml:14", "supabase/.env:3", "default"
}

// Settings returns the table of settings of a mode, in the order in which people read them.
func Settings(mode Mode) []Setting {
	var list []Setting
	for _, s := range tableOf(mode) {
		list = append(list, s.Setting)
	}
	return list
}

// Load reads the configuration. An error names the source of what is wrong, with
// its line if it is a file. That something is missing without which there is
// nothing to serve is no error yet: see [Config.Check].
func Load(s Sources) (Config, error) {
	c, _, err := load(s)
	return c, err
}

// Explain returns every setting of the mode as Load would take it. The error is
// Load's; the values are as far as they could be told even then.
func Explain(s Sources) ([]Value, error) {
	_, values, err := load(s)
	return values, err
}

// given is what a source says of a setting.
type given struct {
	text   string
	source string // for people: what says so
	path   string // in config.toml, or the name in a .env file
	dir    string // what a relative file name in it is relative to; "" is the current directory
	flag   bool   // on the command line
}

// where names the source, and in a file its key.
func (g given) where() string {
	if g.path != "" {
		return g.source + ": " + g.path
	}
	return g.source
}

// errorf returns an error that says where its cause is to be mended.
func (g given) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", g.where(), fmt.Errorf(format, args...))
}

func load(s Sources) (Config, []Value, error) {
	if s.Getenv == nil {
		s.Getenv = func(string) string { return "" }
	}
	project, err := s.project()
	if err != nil {
		return Config{}, nil, err
	}
	c := Config{Mode: s.Mode, Open: s.Mode == Dev}
	var values []Value
	for _, setting := range tableOf(s.Mode) {
		g, found, wrong := s.find(setting.Setting, project)
		if !found {
			g = given{text: setting.value, source: "default"}
		}
		if wrong == nil && (found || g.text != "") {
			wrong = setting.take(&c, g)
		}
		if err == nil {
			err = wrong
		}
		values = append(values, setting.explain(g, found))
	}
	if err != nil {
		return Config{}, values, err
	}
	if c.Functions, err = project.Functions(); err != nil {
		return Config{}, values, err
	}
	if err := c.takeSupervisor(s.Getenv); err != nil {
		return Config{}, values, err
	}
	c.Traces = telemetry.TracesOf(s.Getenv)
	c.Warnings = s.misspelt(project)
	if err := c.complete(); err != nil {
		return Config{}, values, err
	}
	return c, values, nil
}

// find looks a setting up where it may be given.
func (s Sources) find(setting Setting, project *project) (given, bool, error) {
	if text, ok := s.Flags[setting.Name]; ok {
		return given{text: text, source: "--" + setting.Name, flag: true}, true, nil
	}
	if setting.Name == "workdir" && s.Workdir != "" {
		return given{text: s.Workdir, source: "--workdir", flag: true}, true, nil
	}
	for _, name := range setting.Env {
		if text := s.Getenv(name); text != "" {
			return given{text: text, source: name}, true, nil
		}
	}
	v, ok := project.Value(setting.TOML)
	if !ok || !v.List && v.Text == "" {
		return given{}, false, nil
	}
	g := given{text: v.Text, source: v.Where(), path: v.Path, dir: project.supabase()}
	switch {
	case v.List:
		return g, true, g.errorf("want one value, not a list")
	case v.Env != "":
		err := s.substitute(&g, v.Env, project)
		return g, true, err
	}
	return g, true, nil
}

// explain is the setting as people may see it.
func (s setting) explain(g given, found bool) Value {
	v := Value{Setting: s.Setting, Text: g.text, Source: g.source}
	switch {
	case !found:
		v.Text = s.Default
	case s.show != nil && g.text != "":
		v.Text = s.show(g.text)
	case s.Secret && g.text != "":
		v.Text = hidden
	}
	return v
}

// hidden stands for what is not for a screen.
const hidden = "(hidden)"

// tableOf returns the settings that a mode knows.
func tableOf(mode Mode) []setting {
	var list []setting
	for _, s := range table(mode) {
		if s.Modes == nil {
			s.Modes = []Mode{Dev, Serve}
		}
		if !slices.Contains(s.Modes, mode) {
			continue
		}
		if s.TOML == "" && s.Name != "workdir" {
			s.TOML = underAmber(s.Name)
		}
		if s.Default == "" {
			s.Default = s.value
		}
		list = append(list, s)
	}
	return list
}
