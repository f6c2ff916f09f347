package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/host"
	"github.com/amberhost/amber/supabase/local"
)

// devFlags are settings of the environment that the command line can override.
type devFlags struct {
	port, dbPort uint16
	data         string
	verbose      bool
}

func (p *program) devCommand() *cobra.Command {
	var flags devFlags
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Start a host with its own Postgres, for development",
		Long: `Start a host on this machine: an embedded Postgres, the schema, and the tasks of DIR, which
are published again whenever a file changes. Without DIR the built-in example tasks.

Data is kept between starts; runs that a stop or a crash interrupted go on. The host is
open to all of this machine and to nobody else. Ctrl-C stops it; a second one at once.`,
		Example: example(`
			amber dev
			amber dev ./tasks
			amber dev ./tasks --port 8000 --db-port 8001 --data /tmp/amber
			DATABASE_URL=postgres://postgres:postgres@127.0.0.1:5432/postgres amber dev`),
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
	f.Uint16Var(&flags.port, "port", host.DefaultPort, "where to serve HTTP ($AMBER_PORT)")
	f.Uint16Var(&flags.dbPort, "db-port", local.DefaultPort, "where Postgres listens ($AMBER_DB_PORT)")
	f.StringVar(&flags.data, "data", "", "directory of the database and amber's keys ($AMBER_DATA; default "+defaultData()+")")
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
	given := make(map[string]string)
	for name, setting := range map[string]struct{ variable, value string }{
		"port":    {"AMBER_PORT", fmt.Sprint(flags.port)},
		"db-port": {"AMBER_DB_PORT", fmt.Sprint(flags.dbPort)},
		"data":    {"AMBER_DATA", flags.data},
	} {
		if cmd.Flags().Changed(name) {
			given[setting.variable] = setting.value
		}
	}
	config, err := host.ConfigFromEnv(func(name string) string {
		return cmp.Or(given[name], p.getenv(name))
	})
	if err != nil {
		return config, usagef(cmd, "%w", err)
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

// greet says where everything is and what to do next.
func (p *program) greet(info host.Info, config host.Config) {
	tasks := "the built-in examples"
	if config.TasksDir != "" {
		tasks = config.TasksDir + ", watched for changes"
	}
	writeTable(p.stdout, [][2]string{
		{"API URL", info.URL},
		{"Functions URL", info.FunctionsURL},
		{"DB URL", info.DatabaseURL},
		{"anon key", info.AnonKey},
		{"service_role key", info.ServiceRoleKey},
		{"tasks", tasks},
		{"data", info.DataDir},
	})
	url := ""
	if info.URL != "http://127.0.0.1:"+defaultPort {
		url = " --url " + info.URL
	}
	task := showpiece(config.TasksDir)
	fmt.Fprintf(p.stdout, `
amber is ready. In another terminal:

  %s run %s%s

  curl %s/tasks/execute -H 'Prefer: wait=10' -d '{"taskName":"%s"}'

`, invocation(), task, url, info.FunctionsURL, task)
}

// showpiece names the task to try first.
func showpiece(dir string) string {
	if dir == "" {
		return "order-fulfilment"
	}
	files, _, err := publish.Files(os.DirFS(dir))
	if err != nil || len(files) == 0 {
		return "NAME"
	}
	return strings.TrimSuffix(path.Base(files[0]), path.Ext(files[0]))
}

func writeTable(w io.Writer, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(w, "  %s%s  %s\n", strings.Repeat(" ", width-len(r[0])), r[0], r[1])
	}
}
