package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, besides 0.
const (
	exitFailed      = 1   // a task or a file failed, or anything not below
	exitUsage       = 2   // the command line is wrong
	exitUnreachable = 3   // no host answers
	exitInterrupted = 130 // Ctrl-C; a run goes on without its watcher
)

// program is the command line's surroundings; commands reach the outside only
// through it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// run is the whole program as a value: it returns the exit code. It stops in
// an orderly way when ctx is cancelled.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return p.exit(root.ExecuteContext(ctx))
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "amber",
		Short: "JavaScript tasks that survive the host's death",
		Long: `amber runs JavaScript tasks. Wherever a task awaits, the whole of it is saved to
Postgres, and goes on from there: in this process, in another, after a crash.`,
		Example: example(`
			# start a host with its own Postgres and the example tasks
			amber dev

			# in another terminal: run one of them and watch
			amber run order-fulfilment`),
		Args:              cobra.ArbitraryArgs,
		RunE:              unknownCommand,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd, "%w", err)
	})
	root.AddCommand(p.devCommand(), p.publishCommand(), p.runCommand())
	return root
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

// usageError is a mistake on the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{command: cmd.CommandPath(), err: fmt.Errorf(format, args...)}
}

// exitCode is an error that has been told already: only the code is left.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// exit is the one place where an error becomes words and a code.
func (p *program) exit(err error) int {
	var (
		code        exitCode
		usage       *usageError
		unreachable *unreachableError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.stderr, "amber: interrupted")
		return exitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "amber: %v\nSee `%s --help`.\n", err, usage.command)
		return exitUsage
	case errors.As(err, &unreachable):
		fmt.Fprintf(p.stderr, "amber: %v\n%s\n", err, unreachable.advice())
		return exitUnreachable
	}
	fmt.Fprintf(p.stderr, "amber: %v\n", err)
	return exitFailed
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
