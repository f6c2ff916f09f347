package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) runCommand() *cobra.Command {
	var (
		host   target
		input  string
		detach bool
		follow string
		begin  startFlags
	)
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Start a task, watch it, print its result",
		Long: `Start a task on a running host and watch it until it ends.

On a terminal its calls are shown as a live tree, elsewhere as a line per change; both on
stderr, as are the task's logs. The result goes to stdout. Ctrl-C leaves the run alone: it
goes on without a watcher. A host that dies meanwhile is waited for, for a minute.

With --detach nothing is watched: stdout gets the run's id. With --follow RUN nothing is
started: a run that is there is watched, from wherever it is.

With -o json stdout gets a line of JSON per event: {"event": "started"}, then "call", "log" and
"host", and at last {"event": "ended", "status", "result", "error"}.

Exit status: 0 completed, 1 failed or stuck, 2 wrong usage, 3 no host, 130 left by Ctrl-C.`,
		Example: example(`
			amber run hello
			amber run hello --input '{"name":"Ada"}'
			amber run order-fulfilment --input @order.json
			echo '{"ms":5000}' | amber run sleeper --input -
			amber run fan-out --url https://amber.example.com --key $AMBER_KEY > result.json
			amber run fan-out -o json | tail -n 1 | jq .result
			amber run nightly-report --at 2031-01-31T02:00:00Z --timeout 2h --detach
			amber run charge-card --idempotency-key order-4711

			# start now, look later
			id=$(amber run nightly-report --detach)
			amber run --follow $id`),
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("follow") {
				return checkFollow(cmd, args, follow)
			}
			if len(args) != 1 {
				return usagef(cmd, "run takes the name of one task, not %d", len(args))
			}
			if strings.TrimSpace(args[0]) == "" {
				return usagef(cmd, "the name of the task is empty")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := p.readInput(input)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			client, err := host.client(cmd, p.getenv)
			switch {
			case err != nil:
				return err
			case follow != "":
				return p.watch(cmd.Context(), client, "", follow)
			}
			s, err := begin.start(cmd, args[0], value)
			if err != nil {
				return err
			}
			return p.runTask(cmd.Context(), client, s, detach)
		},
		ValidArgsFunction: p.completeTasks(&host),
	}
	f := cmd.Flags()
	f.StringVarP(&input, "input", "i", "", "the task's input: JSON, @FILE, or - for stdin (default: none, which the task sees as {})")
	f.BoolVarP(&detach, "detach", "d", false, "print the run's id and watch nothing")
	f.StringVar(&follow, "follow", "", "watch the run with this id instead of starting one")
	begin.addTo(cmd)
	host.addTo(cmd)
	_ = cmd.RegisterFlagCompletionFunc("follow", p.completeRuns(&host)) // these fail for a flag that is not there
	for _, name := range startFlagNames {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return cmd
}

// checkFollow refuses what is said beside --follow for a run that starts.
func checkFollow(cmd *cobra.Command, args []string, run string) error {
	for _, name := range append([]string{"input", "detach"}, startFlagNames...) {
		if cmd.Flags().Changed(name) {
			return usagef(cmd, "--follow watches a run that is there, and --%s is for one that starts: give one of the two", name)
		}
	}
	if len(args) > 0 {
		return usagef(cmd, "--follow watches a run that is there: leave %q out, or start it without --follow", args[0])
	}
	return checkRunID(cmd, run)
}

// runTask starts a task, and watches it unless detach says otherwise.
func (p *program) runTask(ctx context.Context, c *client, s start, detach bool) error {
	id, err := c.execute(ctx, s)
	if err != nil {
		return hint(fmt.Errorf("run %s: %w", s.Task, err))
	}
	return p.begun(ctx, c, s.Task, id, detach)
}

// begun tells of a run that has started, and watches it unless detach says otherwise.
func (p *program) begun(ctx context.Context, c *client, task, id string, detach bool) error {
	started := startEvent{eventStarted, id, task}
	switch {
	case detach && p.output == outputJSON:
		return p.printLine(started)
	case detach:
		return p.print(id + "\n")
	case p.output == outputJSON:
		if err := p.printLine(started); err != nil {
			return err
		}
	}
	return p.watch(ctx, c, task, id)
}

// watch follows a run and prints what it returned. task is how it is called,
// if that is known.
func (p *program) watch(ctx context.Context, c *client, task, id string) error {
	f := newFollower(c, p.newView())
	end, err := f.follow(ctx, id)
	if task == "" {
		task = f.root.label
	}
	var api *apiError
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{code: codeInterrupted, exit: exitInterrupted,
			text: fmt.Sprintf("\namber: left run %s, which goes on. Look again, or cancel it, with\n  %s\n  %s cancel %s%s", id, c.watchAgain(id), invocation(), id, c.again)}
	case errors.As(err, &api) && api.Status < 500:
		return hint(err)
	case temporary(err):
		e := describe(err)
		e.text = fmt.Sprintf("amber: %v\nThe run is in its database and goes on when a host is back. Look again with\n  %s", err, c.watchAgain(id))
		return &e
	case err != nil:
		return err
	}
	return p.ended(task, id, end)
}

// ended tells how a run ended.
func (p *program) ended(task, id string, end outcome) error {
	if p.output == outputJSON {
		err := p.printLine(endEvent{eventEnded, id, task, end.Status, end.Result, end.Error})
		if err != nil {
			return err
		}
	}
	if phaseOf(end.Status) != completed {
		e, _ := parseError(end.Error)
		return &exitError{text: failure(task, end), code: cmp.Or(e.Code, codeFailed), exit: exitFailed}
	}
	if p.output == outputJSON {
		return nil
	}
	return printJSON(p.stdout, end.Result)
}

// readInput returns the JSON text that --input names, to the byte; nil for none.
func (p *program) readInput(flag string) (json.RawMessage, error) {
	if flag == "" {
		return nil, nil
	}
	from, text, err := p.inputText(flag)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	var value json.RawMessage
	err = json.Unmarshal(text, &value)
	switch {
	case err == nil:
		return text, nil
	case from != "--input":
		return nil, fmt.Errorf("%s is not JSON: %w", from, err)
	}
	return nil, fmt.Errorf("--input is not JSON (%w): a string needs quotes, --input '\"hello\"'", err)
}

// inputText returns what --input says, and where that stood.
func (p *program) inputText(flag string) (from string, text []byte, err error) {
	file, isFile := strings.CutPrefix(flag, "@")
	switch {
	case flag == "-":
		text, err = io.ReadAll(p.stdin)
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			err = errors.New("nothing came on standard input")
		}
		return "standard input", text, err
	case flag == "@":
		return "", nil, errors.New("--input @FILE: give the file's name after @")
	case isFile:
		if text, err = os.ReadFile(file); err != nil {
			err = fmt.Errorf("--input: %w", err)
		}
		return file, text, err
	}
	return "--input", []byte(flag), nil
}

// hint adds what to do about errors that have a usual cause.
func hint(err error) error {
	var api *apiError
	if !errors.As(err, &api) {
		return err
	}
	switch {
	case api.Code == "TASK_RUN_NOT_FOUND":
		return fmt.Errorf("%w\n`%s runs` lists the runs that this host has", err, invocation())
	case api.Code == "TASK_NOT_FOUND":
		return fmt.Errorf("%w\nPublish it first (%s publish FILE). If amber dev watches it, its log says why it was refused", err, invocation())
	case api.Status == 401 || api.Status == 403:
		return fmt.Errorf("%w\nGive the host's key with --key or AMBER_KEY", err)
	}
	return err
}

// failure tells a run's error with the stack that the task has in its own files.
func failure(task string, end outcome) string {
	e, ok := parseError(end.Error)
	if !ok {
		return fmt.Sprintf("%s %s", task, printable(end.Status))
	}
	name := e.Name
	if name == "" {
		name = "Error"
	}
	text := fmt.Sprintf("%s %s: %s: %s", task, printable(end.Status), name, e.Message)
	if e.Code != "" && e.Code != name {
		text += " (" + e.Code + ")"
	}
	text = printableLines(text)
	stack := strings.TrimPrefix(e.Stack, name+": "+e.Message)
	if stack = strings.Trim(stack, "\n"); stack != "" {
		text += "\n" + printableLines(stack)
	}
	return text
}
