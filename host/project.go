package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/amberhost/amber/supabase"
)

// project is what the project's own files say of settings.
type project struct {
	*supabase.Config
	dir string       // that has the directory supabase; "" is the current one
	env supabase.Env // what its .env files say; nil until it is asked for
}

// supabase is the directory of config.toml.
func (p *project) supabase() string { return filepath.Join(p.dir, "supabase") }

// project reads the config.toml. Without a directory that was named there need be none.
func (s Sources) project() (*project, error) {
	p, named := &project{Config: new(supabase.Config), dir: s.Workdir}, s.Workdir != ""
	for _, setting := range tableOf(s.Mode) {
		if setting.Name != "workdir" {
			continue
		}
		if g, found, _ := s.find(setting.Setting, p); found && !named {
			p.dir, named = g.text, g.text != ""
		}
	}
	file := filepath.Join(p.supabase(), "config.toml")
	config, err := supabase.Read(file)
	switch {
	case !named && errors.Is(err, fs.ErrNotExist):
		return p, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--workdir: there is no %s: name the directory that has the directory supabase", file)
	}
	p.Config = config
	return p, err
}

// substitute puts in place of env(NAME) what the environment says, or else the
// project's .env files. Those are read for this alone: one that belongs to
// another program does no harm where nothing asks for it.
func (s Sources) substitute(g *given, name string, p *project) (err error) {
	if g.text = s.Getenv(name); g.text != "" {
		return nil
	}
	if p.env == nil {
		if p.env, err = supabase.ReadEnv(p.dir, s.Getenv("SUPABASE_ENV")); err != nil {
			return err
		}
	}
	v, ok := p.env[name]
	switch {
	case !ok:
		return g.errorf("the environment variable %s is not set, and no .env file of the project has it", name)
	case v.Text == "":
		return g.errorf("the environment variable %s is not set, and empty at %s", name, v.Where())
	}
	g.text, g.source, g.path = v.Text, v.Where(), v.Path
	return nil
}
