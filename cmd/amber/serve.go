package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
)

func (p *program) serveCommand() *cobra.Command {
	var (
		given   *settings
		verbose bool
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start a host on a database, for production",
		Long: `Start a host on a database of its own or of a Supabase project, for production. Any number of
hosts may share a database. Three things must be set:

  DATABASE_URL               the Postgres that keeps the runs; it is migrated at the start
  AMBER_KEYS                 what amber seals its snapshots with; ` + "`amber keys new`" + ` makes one. All
                             hosts of a database have the same; without it the runs are lost
  SUPABASE_JWT_SECRET        what callers are known by: the project's JWT secret, or its keys,
  or ..._SERVICE_ROLE_KEY    or both. Whoever has none is anon

A setting is taken from its flag, else from the first variable in brackets that is set, else
from supabase/config.toml. ` + "`amber config --mode serve`" + ` shows what is in force, and why.

SIGTERM or Ctrl-C stops it in order: runs are saved where they next await, and go on at another
host or the next start. A second one stops it at once, which loses nothing either: runs then go
on from where they last awaited.

Exit status: 0 stopped as told, 1 could not start or failed, 2 wrong settings.`,
		Example: example(`
			# a Supabase project, directly (needs IPv6 or the project's IPv4 add-on)
			DATABASE_URL=postgresql://postgres:PASSWORD@db.REF.supabase.co:5432/postgres

			# through its session pooler
			DATABASE_URL=postgresql://postgres.REF:PASSWORD@aws-0-REGION.pooler.supabase.com:5432/postgres

			# through its transaction pooler
			DATABASE_URL=postgresql://postgres.REF:PASSWORD@aws-0-REGION.pooler.supabase.com:6543/postgres

			# then
			export DATABASE_URL SUPABASE_JWT_SECRET=... AMBER_KEYS=$(amber keys new)   # keep that key
			amber serve --listen 0.0.0.0 --port 8080

			# systemd: /etc/systemd/system/amber.service
			[Service]
			Type=notify
			EnvironmentFile=/etc/amber.env
			ExecStart=/usr/local/bin/amber serve
			DynamicUser=yes
			CacheDirectory=amber
			Environment=AMBER_CACHE=/var/cache/amber
			Restart=always
			TimeoutStopSec=60`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sources := given.sources(p, cmd, host.Serve)
			if verbose {
				sources.Flags["log-level"] = "debug"
			}
			config, err := given.load(p, cmd, sources)
			if err != nil {
				return err
			}
			if err := config.Check(); err != nil {
				return usagef(cmd, "%w", err)
			}
			return p.serve(cmd, config)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	given = addSettings(cmd, []host.Mode{host.Serve})
	addVerbose(cmd, &verbose)
	return cmd
}

// serve serves until it is told to stop, and says once that it does.
func (p *program) serve(cmd *cobra.Command, config host.Config) error {
	config.Ready = func(info host.Info) {
		if p.output == outputJSON { // if nobody reads it, that is no reason to stop serving
			_ = p.printLine(readyOf(info))
		} else {
			_ = p.print(fmt.Sprintf("ready: %s, database %s, process %d\n", info.URL, info.Database, os.Getpid()))
		}
		config.Log.Debug("ready", "url", info.URL)
	}
	return p.host(cmd, config)
}
