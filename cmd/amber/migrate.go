package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/migrations"
)

// databaseSettings are what it takes to reach a host's database.
var databaseSettings = []string{"workdir", "database-url", "pooler", "database-wait", "db-port", "postgres-bin", "postgres-repository", "data"}

func (p *program) migrateCommand() *cobra.Command {
	var (
		given         *settings
		dryRun, print bool
	)
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring a database to the schema that amber needs",
		Long: `Bring a database to the schema that this amber needs, and say what that changed. It is the
database that dev and serve would use: --database-url or DATABASE_URL, else dev's embedded one.

dev and serve do the same when they start (serve --migrate check does not). What is in the
database stays; tables of the system that amber replaces get the columns and types that are
missing. Doing it again changes nothing, and any number may do it at once.

Exit status: 0 the database is up to date, 1 it cannot be, 2 wrong usage.`,
		Example: example(`
			amber migrate
			amber migrate --dry-run
			amber migrate --database-url postgresql://postgres:PASSWORD@db.REF.supabase.co:5432/postgres
			amber migrate --print > amber.sql    # to read, or to apply by other means`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case print && dryRun:
				return usagef(cmd, "--print needs no database and --dry-run needs one: give one of the two")
			case print:
				return p.printSchema()
			}
			sources, err := given.sourcesOfAny(p, cmd)
			if err != nil {
				return err
			}
			config, err := given.loadExisting(p, cmd, sources)
			if err != nil {
				return err
			}
			return p.migrate(cmd, config, sources, dryRun)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	given = addSettings(cmd, []host.Mode{host.Serve, host.Dev}, databaseSettings...)
	given.addMode(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would change, and change nothing")
	cmd.Flags().BoolVar(&print, "print", false, "print the schema's SQL; needs no database")
	return cmd
}

func (p *program) printSchema() error {
	if p.output == outputJSON {
		return p.printJSON(map[string]string{"sql": migrations.SQL()})
	}
	return p.print(migrations.SQL())
}

// migrated is what amber migrate answers in JSON.
type migrated struct {
	Database string   `json:"database"`
	DryRun   bool     `json:"dry_run"`
	Changes  []string `json:"changes"` // to tables that were there before
	Files    []string `json:"files"`   // that were applied
	Warnings []string `json:"warnings"`
}

func (p *program) migrate(cmd *cobra.Command, config host.Config, sources host.Sources, dryRun bool) error {
	report, err := host.Migrate(cmd.Context(), config, dryRun)
	m := migrated{Database: databaseOf(sources), DryRun: dryRun, Changes: orEmpty(report.Changes), Files: orEmpty(report.Files),
		Warnings: orEmpty(report.Warnings)}
	if err == nil && p.output == outputJSON {
		return p.printJSON(m)
	}
	if p.output != outputJSON { // what was done before the error stays
		if printErr := p.print(m.text(err == nil)); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.Database, err)
	}
	return nil
}

func (m migrated) text(complete bool) string {
	var b strings.Builder
	change, apply := "changed", "applied"
	if m.DryRun {
		change, apply = "would change", "would apply"
	}
	for _, c := range m.Changes {
		fmt.Fprintf(&b, "%s  %s\n", change, printable(c))
	}
	for _, f := range m.Files {
		fmt.Fprintf(&b, "%s  %s\n", apply, f)
	}
	for _, w := range m.Warnings {
		fmt.Fprintf(&b, "warning  %s\n", printable(w))
	}
	if complete && b.Len() == 0 {
		return "nothing to do: " + m.Database + " is up to date\n"
	}
	if complete && !m.DryRun {
		fmt.Fprintf(&b, "%s is up to date\n", m.Database)
	}
	return b.String()
}

// databaseOf is how messages call the database, without its password.
func databaseOf(sources host.Sources) string {
	values, _ := host.Explain(sources)
	for _, v := range values {
		if v.Name == "database-url" && v.Source != "default" && v.Text != "" {
			return v.Text
		}
	}
	return "the embedded database"
}

// orEmpty makes [] of what would be null in JSON.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
