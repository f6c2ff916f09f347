package host

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/amberhost/amber/supabase/keys"
)

// Check says why a host would not serve with this configuration: all that is
// missing, is not there, or is known to everybody. Run asks it first.
func (c Config) Check() error {
	var wrong []error
	if c.Open && !isLoopback(c.listen()) {
		wrong = append(wrong, fmt.Errorf("a host that is open to everybody serves this machine alone, and not %s", c.listen()))
	}
	if err := c.checkTasks(); err != nil {
		wrong = append(wrong, err)
	}
	if at, _, _ := net.SplitHostPort(c.MetricsListen); c.Open && c.MetricsListen != "" && !isLoopback(at) {
		wrong = append(wrong, fmt.Errorf("a host that is open to everybody serves this machine alone, and its metrics not on %s: give metrics-listen an address such as 127.0.0.1:9464", c.MetricsListen))
	}
	if err := c.Traces.Check(); err != nil {
		wrong = append(wrong, err)
	}
	if c.Mode == Serve {
		wrong = append(wrong, c.lacks()...)
	}
	switch len(wrong) {
	case 0:
		return nil
	case 1:
		return wrong[0]
	}
	text := fmt.Sprintf("%d settings are missing or wrong:", len(wrong))
	for _, err := range wrong {
		text += "\n  " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return errors.New(text)
}

// checkTasks looks for the directory of tasks before a database is made for them.
func (c Config) checkTasks() error {
	if c.TasksDir == "" {
		return nil
	}
	via := cmp.Or(c.TasksVia, "AMBER_TASKS")
	info, err := os.Stat(c.TasksDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: there is no directory %s: create it, or name another", via, c.TasksDir)
	case err != nil:
		return fmt.Errorf("%s: %w", via, err)
	case !info.IsDir():
		return fmt.Errorf("%s: %s is a file: name the directory of the tasks", via, c.TasksDir)
	}
	return nil
}

// lacks lists what a host that is not one developer's own cannot do without.
func (c Config) lacks() (wrong []error) {
	if c.DatabaseURL == "" {
		wrong = append(wrong, errors.New("no database: set DATABASE_URL, or give --database-url "+likeDatabase))
	}
	if c.Keys.JWTSecret == "" && c.Keys.ServiceRoleKey == "" && c.Keys.SecretKey == "" && c.Keys.Public == nil {
		wrong = append(wrong, errors.New("no API keys, and without one nobody is let in: set SUPABASE_JWT_SECRET, or SUPABASE_SERVICE_ROLE_KEY, or "+
			"SUPABASE_SECRET_KEYS to what your project has (Supabase's dashboard: Project Settings, API Keys)"))
	}
	if known := c.publicKey(); known != "" && !isLoopback(c.listen()) {
		wrong = append(wrong, fmt.Errorf("the %s is the one that every local Supabase project has, so whoever reaches %s could do everything: "+
			"set one of your own, or listen on 127.0.0.1", known, c.listen()))
	}
	if c.AmberKeys == "" {
		wrong = append(wrong, errors.New("no AMBER_KEYS: amber seals with them what tasks hold, and hosts that share a database share them. "+
			"Make one with `amber keys new`, and keep it: without it, runs that wait cannot go on"))
	}
	return wrong
}

// publicKey names a key that everybody knows and that opens everything, "" if there is none.
func (c Config) publicKey() string {
	public := keys.Local()
	for _, set := range append([]keys.Set{c.Keys}, c.MoreKeys...) {
		switch {
		case set.JWTSecret == public.JWTSecret:
			return "JWT secret"
		case set.ServiceRoleKey == public.ServiceRoleKey:
			return "service_role key"
		case set.SecretKey == public.SecretKey:
			return "secret key"
		}
		if given, ok := set.Public.(*keys.KeySet); ok && given.Local() {
			return "public key of users' tokens" // everybody has the private one too
		}
	}
	return ""
}
