package main

import (
	"cmp"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/local"
)

// devFlags are settings of the environment that the command line can override.
type devFlags struct {
	port, dbPort portFlag
	data         string
	databaseURL  string
	verbose      bool
}

// portFlag is a port as it was given. It is read when its name is known, for
// the error.
type portFlag string

func (f *portFlag) Set(text string) error { *f = portFlag(text); return nil }
func (f *portFlag) String() string        { return string(*f) }
func (f *portFlag) Type() string          { return "number" } // in the help

func (p *program) devCommand() *cobra.Command {
	flags := devFlags{port: portFlag(strconv.Itoa(host.DefaultPort)), dbPort: portFlag(strconv.Itoa(local.DefaultPort))}
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Start a host with its own Postgres, for development",
		Long: `Start a host on this machine: an embedded Postgres, the schema, and the tasks of DIR, which
are published again whenever a file changes. Without DIR the built-in example tasks.

With --database-url, or a DATABASE_URL that names this machine, it uses that Postgres instead
of an embedded one, and migrates that database. A DATABASE_URL that names another is refused.

Data is kept between starts; runs that a stop or a crash interrupted go on. The host is
open to all of this machine and to nobody else. Ctrl-C stops it; a second one at once.`,
		Example: example(`
			amber dev
			amber dev ./tasks
			amber dev ./tasks --port 8000 --db-port 8001 --data /tmp/amber
			amber dev --database-url postgres://postgres:postgres@127.0.0.1:5432/postgres`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "dev takes one directory, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := p.devConfig(cmd, flags, args)
			if err != nil {
				return err
			}
			return p.dev(cmd, config)
		},
	}
	f := cmd.Flags()
	f.Var(&flags.port, "port", "where to serve HTTP ($AMBER_PORT)")
	f.Var(&flags.dbPort, "db-port", "where the embedded Postgres listens ($AMBER_DB_PORT)")
	f.StringVar(&flags.data, "data", "", "directory of the database and amber's keys ($AMBER_DATA; default "+defaultData()+")")
	f.StringVar(&flags.databaseURL, "database-url", "", "a Postgres to use and migrate, on whichever machine ($DATABASE_URL, if it names this one; default: an embedded one)")
	f.BoolVarP(&flags.verbose, "verbose", "v", false, "log more")
	return cmd
}

func defaultData() string {
	dir, err := local.DefaultDir(os.Geteuid())
	if err != nil {
		return "none"
	}
	return dir
}

func (p *program) devConfig(cmd *cobra.Command, flags devFlags, args []string) (host.Config, error) {
	changed := cmd.Flags().Changed
	given := make(map[string]string)
	if changed("data") {
		given["AMBER_DATA"] = flags.data
	}
	for name, setting := range map[string]struct {
		variable string
		value    portFlag
	}{"port": {"AMBER_PORT", flags.port}, "db-port": {"AMBER_DB_PORT", flags.dbPort}} {
		if !changed(name) {
			continue
		}
		if _, err := strconv.ParseUint(string(setting.value), 10, 16); err != nil {
			return host.Config{}, usagef(cmd, "--%s: %q is not a port: want a number from 0 to 65535", name, setting.value)
		}
		given[setting.variable] = string(setting.value)
	}
	config, err := host.ConfigFromEnv(func(name string) string {
		if name == "DATABASE_URL" && changed("database-url") {
			return "" // the flag counts, and may name any machine
		}
		return cmp.Or(given[name], p.getenv(name))
	})
	if err != nil {
		return config, usagef(cmd, "%w", err)
	}
	if changed("database-url") {
		config.DatabaseURL, config.DatabaseVia = flags.databaseURL, "--database-url"
	}
	if len(args) == 1 {
		config.TasksDir = args[0]
		if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
			return config, usagef(cmd, "there is no directory %s: create it, or leave it out for the example tasks", args[0])
		}
	}
	config.Log = newDevLog(p.stderr, flags.verbose)
	return config, nil
}

// dev serves until it is told to stop.
func (p *program) dev(cmd *cobra.Command, config host.Config) error {
	config.Ready = func(info host.Info) { p.greet(info, config) }
	err := host.New(config).Run(cmd.Context())
	if err != nil && cmd.Context().Err() == nil {
		return fmt.Errorf("dev: %w", err)
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	fmt.Fprintln(p.stdout, "\nstopped; runs that were under way go on at the next start")
	return nil
}
