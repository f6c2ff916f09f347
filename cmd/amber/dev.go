package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
)

func (p *program) devCommand() *cobra.Command {
	var (
		given   *settings
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Start a host with its own Postgres, for development",
		Long: `Start a host on this machine: an embedded Postgres, the schema, and the tasks of DIR, which
are published again whenever a file changes. Without DIR the built-in example tasks.

With --database-url, or a DATABASE_URL that names this machine, it uses that Postgres instead
of an embedded one, and migrates that database. A DATABASE_URL that names another is refused.

Data is kept between starts; runs that a stop or a crash interrupted go on. The host is
open to all of this machine and to nobody else. Ctrl-C stops it; a second one at once.

A setting is taken from its flag, else from the first variable in brackets that is set, else
from supabase/config.toml. ` + "`amber config`" + ` shows what is in force, and why.`,
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
			config, err := p.devConfig(cmd, given, args, verbose)
			if err != nil {
				return err
			}
			if err := config.Check(); err != nil {
				return usagef(cmd, "%w", err)
			}
			return p.dev(cmd, config)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	given = addSettings(cmd, []host.Mode{host.Dev})
	addVerbose(cmd, &verbose)
	return cmd
}

func addVerbose(cmd *cobra.Command, verbose *bool) {
	cmd.Flags().BoolVarP(verbose, "verbose", "v", false, "log more: --log-level debug")
}

func (p *program) devConfig(cmd *cobra.Command, given *settings, args []string, verbose bool) (host.Config, error) {
	sources := given.sources(p, cmd, host.Dev)
	if len(args) == 1 {
		if _, twice := sources.Flags["tasks"]; twice {
			return host.Config{}, usagef(cmd, "the directory of tasks is given twice: as %s and with --tasks", args[0])
		}
		sources.Flags["tasks"] = args[0]
		if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
			return host.Config{}, usagef(cmd, "there is no directory %s: create it, or leave it out for the example tasks", args[0])
		}
	}
	if verbose {
		sources.Flags["log-level"] = "debug"
	}
	return given.load(p, cmd, sources)
}

// dev serves until it is told to stop.
func (p *program) dev(cmd *cobra.Command, config host.Config) error {
	config.Ready = func(info host.Info) { p.greet(info, config) }
	if err := p.host(cmd, config); err != nil {
		return err
	}
	if p.output == outputJSON {
		return nil
	}
	return p.print("\nstopped; runs that were under way go on at the next start\n")
}

// host runs a host until it is told to stop. It outlives who reads its output.
func (p *program) host(cmd *cobra.Command, config host.Config) error {
	signal.Ignore(syscall.SIGPIPE)
	context.AfterFunc(cmd.Context(), func() {
		config.Log.Info("stopping: runs are saved where they next await; a second signal stops at once")
	})
	err := host.New(config).Run(cmd.Context())
	if err != nil && cmd.Context().Err() == nil {
		return fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
