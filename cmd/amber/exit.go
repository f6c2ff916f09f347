package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// The codes of errors in JSON, where the host or the task has none of its own.
const (
	codeFailed      = "FAILED"
	codeUsage       = "USAGE"
	codeNoHost      = "NO_HOST"
	codeInterrupted = "INTERRUPTED"
	codeStuck       = "STUCK"
)

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

// exitError is an error with its own words, code and exit code. Its text is
// shown as it is.
type exitError struct {
	text string
	code string
	exit int
}

func (e *exitError) Error() string { return e.text }

// exit is the one place where an error becomes words and an exit code.
func (p *program) exit(err error) int {
	if err == nil {
		return 0
	}
	e := describe(err)
	var worded *exitError
	if !errors.As(err, &worded) {
		e.text = "amber: " + e.text
	}
	if p.output == outputJSON {
		line, _ := json.Marshal(struct { // strings always have a form
			Error string `json:"error"`
			Code  string `json:"code"`
		}{strings.TrimPrefix(strings.TrimSpace(e.text), "amber: "), e.code})
		fmt.Fprintf(p.stderr, "%s\n", line)
		return e.exit
	}
	fmt.Fprintln(p.stderr, e.text)
	return e.exit
}

func describe(err error) exitError {
	var (
		worded      *exitError
		usage       *usageError
		unreachable *unreachableError
		stuck       *stuckError
		api         *apiError
	)
	switch {
	case errors.As(err, &worded):
		return *worded
	case errors.Is(err, context.Canceled):
		return exitError{"interrupted", codeInterrupted, exitInterrupted}
	case errors.As(err, &usage):
		return exitError{fmt.Sprintf("%v\nSee `%s --help`.", err, usage.command), codeUsage, exitUsage}
	case errors.As(err, &unreachable):
		return exitError{fmt.Sprintf("%v\n%s", err, unreachable.advice()), codeNoHost, exitUnreachable}
	case errors.As(err, &stuck):
		return exitError{err.Error(), codeStuck, exitFailed}
	case errors.As(err, &api):
		return exitError{err.Error(), cmp.Or(api.Code, codeFailed), exitFailed}
	}
	return exitError{err.Error(), codeFailed, exitFailed}
}
