package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/bench"
	"github.com/amberhost/amber/host"
)

const outputMarkdown output = "markdown" // of bench, for a page

// benchSettings are those of a host that is measured.
var benchSettings = []string{"workdir", "database-url", "pooler", "pool-size", "database-wait", "postgres-bin", "postgres-repository", "postgres-offline",
	"data", "cache", "amber-keys", "max-bodies", "max-queued", "memory", "log-level", "log-format"}

// benchFlags say what is measured.
type benchFlags struct {
	only                         []string
	duration                     time.Duration
	quick, besideOthers, compare bool
	save                         string
}

func (p *program) benchCommand() *cobra.Command {
	var (
		given *settings
		flags benchFlags
	)
	cmd := &cobra.Command{
		Use:   "bench [--compare A.json B.json]",
		Short: "Measure amber on this machine and a database",
		Long: `Measure what amber costs here: it starts a host in this process, with tasks and a service that
do nothing, and removes all of it again. Without a database it starts an embedded Postgres in a
temporary directory beside dev's, on the same disk. With --database-url, or a DATABASE_URL that
dev or serve would use, it measures that database, which must be up to date (amber migrate), and
which nobody else may use meanwhile.

The workloads:

` + workloadList() + `
Each is warmed up, then measured in three rounds, of which you see the median. All of it takes
some minutes; --quick takes about one, and is for trying it out. docs/performance.md says what
each figure means. Let nothing else run on the machine.

With --compare it measures nothing, and puts two results side by side that --save has saved.
A figure is better or worse when the rounds of the two do not overlap.

Exit status: 0 measured, 1 failed, 2 wrong usage, 130 Ctrl-C (what was made is removed).`,
		Example: example(`
			amber bench
			amber bench --quick --only call,task
			amber bench --save before.json
			amber bench --compare before.json after.json
			amber bench --database-url postgres://postgres:postgres@127.0.0.1:5432/bench -o markdown`),
		Args:        flags.checkArgs,
		Annotations: map[string]string{outputs: "text json markdown"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.compare {
				return p.compareBenches(cmd, args[0], args[1])
			}
			return p.bench(cmd, given, flags)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	given = addSettings(cmd, []host.Mode{host.Serve, host.Dev}, benchSettings...)
	f := cmd.Flags()
	f.StringSliceVar(&flags.only, "only", nil, "measure these workloads alone, several with commas")
	f.DurationVar(&flags.duration, "duration", 3*bench.Full.Round, "how long each workload is measured, where that can be chosen")
	f.BoolVar(&flags.quick, "quick", false, "measure everything shortly")
	f.BoolVar(&flags.besideOthers, "beside-others", false, "measure although other hosts use the database, or runs wait there")
	f.StringVar(&flags.save, "save", "", "file to save the result in, as JSON")
	f.BoolVar(&flags.compare, "compare", false, "put two saved results side by side")
	_ = cmd.RegisterFlagCompletionFunc("only", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, w := range bench.Workloads() {
			names = append(names, w[0]+"\t"+w[1])
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}) // fails for a flag that is not there
	return cmd
}

func workloadList() string {
	var b strings.Builder
	for _, w := range bench.Workloads() {
		fmt.Fprintf(&b, "  %-7s %s\n", w[0], w[1])
	}
	return b.String()
}

func (f *benchFlags) checkArgs(cmd *cobra.Command, args []string) error {
	if !f.compare {
		if len(args) > 0 {
			return usagef(cmd, "bench takes no argument: %q is one too many, unless with --compare", args[0])
		}
		return nil
	}
	if len(args) != 2 {
		return usagef(cmd, "--compare takes two results that --save has saved, not %d", len(args))
	}
	for _, name := range []string{"only", "duration", "quick", "beside-others", "save"} {
		if cmd.Flags().Changed(name) {
			return usagef(cmd, "--compare measures nothing: leave out --%s", name)
		}
	}
	return nil
}

// plan is how much is measured.
func (f *benchFlags) plan(cmd *cobra.Command) (bench.Plan, error) {
	switch chosen := cmd.Flags().Changed("duration"); {
	case f.quick && chosen:
		return bench.Plan{}, usagef(cmd, "--quick says how long it takes, and so does --duration: give one of the two")
	case f.quick:
		return bench.Quick, nil
	case f.duration < time.Second:
		return bench.Plan{}, usagef(cmd, "--duration: %v is too short to tell anything: want 1s or more", f.duration)
	}
	plan := bench.Full
	plan.Round = f.duration / time.Duration(plan.Rounds)
	return plan, nil
}

func (p *program) bench(cmd *cobra.Command, given *settings, flags benchFlags) (err error) {
	plan, err := flags.plan(cmd)
	if err != nil {
		return err
	}
	if err := bench.CheckOnly(flags.only); err != nil {
		return usagef(cmd, "--only: %w", err)
	}
	config, err := p.benchConfig(cmd, given)
	if err != nil {
		return err
	}
	save, err := openSave(flags.save)
	if err != nil {
		return usagef(cmd, "--save: %w", err)
	}
	defer func() { err = errors.Join(err, save.close()) }()
	if config.DatabaseURL == "" {
		var remove func() error
		if config, remove, err = bench.Temporary(config); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	info, _ := debug.ReadBuildInfo()
	result, err := bench.Run(cmd.Context(), bench.Options{Config: config, Plan: plan, Only: flags.only, BesideOthers: flags.besideOthers,
		Amber: versionOf(info).short(), Progress: p.benchProgress})
	if err != nil {
		return err
	}
	text, err := encode(result)
	if err == nil {
		err = save.write(text)
	}
	if err != nil {
		return err
	}
	return p.showBench(result)
}

// benchConfig is that of a host that says what is wrong and nothing else, unless
// it was asked for more.
func (p *program) benchConfig(cmd *cobra.Command, given *settings) (host.Config, error) {
	sources := given.sources(p, cmd, given.guess(p, cmd))
	config, err := given.load(p, cmd, sources)
	if err == nil && !givenSetting(sources, "log-level") {
		config.LogLevel = slog.LevelWarn
		config.Log = p.hostLog(config, sources)
	}
	return config, err
}

func (p *program) benchProgress(what string) {
	if p.output != outputJSON {
		fmt.Fprintf(p.stderr, "measuring: %s\n", what)
	}
}

// short is a version on one line.
func (v version) short() string {
	text := v.Version
	if v.Commit != "" {
		text = v.Commit[:min(12, len(v.Commit))]
	}
	if v.Modified {
		text += ", modified"
	}
	return text
}

// saved is the file of --save. It is opened before anything is measured, and
// removed again if nothing came of that; nil is none.
type saved struct {
	file    *os.File
	written bool
}

func openSave(name string) (*saved, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("there is a %s already: remove it, or name another", name)
	}
	if err != nil {
		return nil, err
	}
	return &saved{file: file}, nil
}

func (s *saved) write(text []byte) error {
	if s == nil {
		return nil
	}
	if err := printJSON(s.file, text); err != nil {
		return fmt.Errorf("save %s: %w", s.file.Name(), err)
	}
	s.written = true
	return nil
}

func (s *saved) close() error {
	if s == nil {
		return nil
	}
	err := s.file.Close()
	if !s.written {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}
