package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// program is the command line's surroundings; commands reach the outside only
// through it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	environ        []string // "NAME=value", to find misspelt names; nil looks for none

	output output // how to answer
}

// run is the whole program as a value: it returns the exit code. It stops in
// an orderly way when ctx is cancelled.
func (p *program) run(ctx context.Context, args []string) int {
	p.output = wanted(args) // until the flags are parsed, which may fail
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	return p.exit(root.ExecuteContext(ctx))
}

// The groups of commands in the help.
const (
	groupRuns  = "runs"
	groupHosts = "hosts"
	groupMore  = "more"
)

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "amber",
		Short: "JavaScript tasks that survive the host's death",
		Long: `amber runs JavaScript tasks. Wherever a task awaits, the whole of it is saved to
Postgres, and goes on from there: in this process, in another, after a crash.

With -o json a command answers with one JSON document on stdout (with a line of JSON per event
where it watches: run, logs -f), and an error is {"error": "...", "code": "..."} on stderr.
Exit status: 0 all is well, 1 something failed, 2 wrong usage, 3 no host answers, 130 Ctrl-C.`,
		Example: example(`
			# start a host with its own Postgres and the example tasks
			amber dev

			# in another terminal: run one of them and watch
			amber run order-fulfilment

			# what ran, and what it wrote
			amber runs
			amber logs RUN`),
		Args:              cobra.ArbitraryArgs,
		RunE:              unknownCommand,
		PersistentPreRunE: p.checkOutput,
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%w", err)
	})
	p.addOutputFlag(root)
	root.AddGroup(
		&cobra.Group{ID: groupRuns, Title: "Tasks and runs, on a host that is there:"},
		&cobra.Group{ID: groupHosts, Title: "Hosts and their databases:"},
		&cobra.Group{ID: groupMore, Title: "More:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRuns, p.runCommand(), p.runsCommand(), p.statusCommand(), p.logsCommand(), p.cancelCommand(), p.retryCommand(), p.rerunCommand(), p.publishCommand())
	add(groupHosts, p.devCommand(), p.serveCommand(), p.migrateCommand(), p.configCommand(), p.keysCommand(), p.benchCommand())
	help := helpCommand(root)
	help.GroupID = groupMore
	root.SetHelpCommand(help)
	add(groupMore, p.versionCommand(), p.completionCommand())
	return root
}

// helpCommand is cobra's, but does not take a command that is none for a success.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show the help of a command",
		Example: example("amber help run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(root, args)
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if found, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				for _, c := range found.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef(cmd, "unknown command %q; did you mean %q?", args[0], near[0])
	}
	return usagef(cmd, "unknown command %q", args[0])
}

// noArgs refuses arguments for a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "%s takes no argument: %q is one too many", cmd.Name(), args[0])
	}
	return nil
}

// example strips the indentation that the source gives an example text.
func example(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight("  "+strings.TrimLeft(line, "\t"), " ")
	}
	return strings.Join(lines, "\n")
}

// invocation is how to call this program again, for texts to paste.
func invocation() string {
	executable, err := os.Executable()
	if err != nil || strings.Contains(executable, "go-build") {
		return "go run ./cmd/amber"
	}
	name := filepath.Base(executable)
	if found, err := exec.LookPath(name); err == nil {
		if found, err = filepath.Abs(found); err == nil && found == executable {
			return name
		}
	}
	return quoted(executable)
}

// oneRun wants one argument, a run's id.
func oneRun(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef(cmd, "%s takes a run's id: `%s runs` lists them", cmd.Name(), invocation())
	case len(args) > 1:
		return usagef(cmd, "%s takes one run, not %d", cmd.Name(), len(args))
	}
	return checkRunID(cmd, args[0])
}

// checkRunID tells a run's id from a task's name and from half an id.
func checkRunID(cmd *cobra.Command, text string) error {
	if _, err := uuid.Parse(text); err != nil {
		return usagef(cmd, "%q is not a run's id, which looks like 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b: `%s runs` lists them", text, invocation())
	}
	return nil
}
