package main

import (
	"bytes"
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
		host  target
		input string
	)
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Start a task, watch it, print its result",
		Long: `Start a task on a running host and watch it until it ends.

On a terminal its calls are shown as a live tree, elsewhere as a line per change; both on
stderr, as are the task's logs. The result goes to stdout. Ctrl-C leaves the run alone: it
goes on without a watcher. A host that dies meanwhile is waited for, for a minute.

Exit status: 0 completed, 1 failed or stuck, 2 wrong usage, 3 no host, 130 left by Ctrl-C.`,
		Example: example(`
			amber run hello
			amber run hello --input '{"name":"Ada"}'
			amber run order-fulfilment --input @order.json
			echo '{"ms":5000}' | amber run sleeper --input -
			amber run fan-out --url https://amber.example.com --key $AMBER_KEY > result.json`),
		Args: func(cmd *cobra.Command, args []string) error {
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
			if err != nil {
				return err
			}
			return p.runTask(cmd.Context(), client, args[0], value)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "the task's input: JSON, @FILE, or - for stdin (default: none, which the task sees as {})")
	host.addTo(cmd)
	return cmd
}

// runTask starts a task, follows it and prints what it returned.
func (p *program) runTask(ctx context.Context, c *client, task string, input json.RawMessage) error {
	id, err := c.execute(ctx, task, input)
	if err != nil {
		return hint(fmt.Errorf("run %s: %w", task, err))
	}
	end, err := newFollower(c, p.newView()).follow(ctx, id)
	var stuck *stuckError
	switch {
	case errors.As(err, &stuck):
		return err
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(p.stderr, "\namber: left run %s, which goes on. Look again with\n  %s\n", id, c.lookAgain(id))
		return exitCode(exitInterrupted)
	case err != nil:
		fmt.Fprintf(p.stderr, "amber: %v\nThe run is in its database and goes on when a host is back. Look again with\n  %s\n", err, c.lookAgain(id))
		return exitCode(exitOf(err))
	case phaseOf(end.Status) != completed:
		fmt.Fprint(p.stderr, failure(task, end))
		return exitCode(exitFailed)
	}
	return printJSON(p.stdout, end.Result)
}

func exitOf(err error) int {
	var unreachable *unreachableError
	if errors.As(err, &unreachable) {
		return exitUnreachable
	}
	return exitFailed
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
		return fmt.Sprintf("%s %s\n", task, printable(end.Status))
	}
	name := e.Name
	if name == "" {
		name = "Error"
	}
	text := fmt.Sprintf("%s %s: %s: %s", task, printable(end.Status), name, e.Message)
	if e.Code != "" && e.Code != name {
		text += " (" + e.Code + ")"
	}
	text = printableLines(text) + "\n"
	stack := strings.TrimPrefix(e.Stack, name+": "+e.Message)
	if stack = strings.Trim(stack, "\n"); stack != "" {
		text += printableLines(stack) + "\n"
	}
	return text
}

// printJSON indents a JSON text and leaves its numbers and strings as they are.
func printJSON(w io.Writer, text json.RawMessage) error {
	if len(text) == 0 {
		text = json.RawMessage("null")
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	b.WriteByte('\n')
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
