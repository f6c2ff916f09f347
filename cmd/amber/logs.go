package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (p *program) logsCommand() *cobra.Command {
	var (
		host   target
		follow bool
	)
	cmd := &cobra.Command{
		Use:   "logs RUN",
		Short: "Show what a run has written to its console",
		Long: `Show what a run and its nested runs have written: the time, the level, the task, the text. A
text of several lines is shown as one; -o json has it as it was.

With -f it goes on until the run has ended; a host that dies meanwhile is waited for, for a
minute. With -o json it is one document, with -f a line per line.

Exit status: 0 shown (to the end, with -f), 1 no such run, or it is stuck, 2 wrong usage,
3 no host, 130 left by Ctrl-C.`,
		Example: example(`
			amber logs 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b
			amber logs -f $(amber run --detach nightly-report)
			amber logs -f RUN -o json | jq -r 'select(.level == "error").message'`),
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			if follow {
				return p.followLogs(cmd.Context(), client, args[0])
			}
			return p.logs(cmd.Context(), client, args[0])
		},
		ValidArgsFunction: p.completeRuns(&host),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	host.addTo(cmd)
	return cmd
}

func (p *program) logs(ctx context.Context, c *client, id string) error {
	lines, err := newLogTail(c, id).next(ctx)
	if err != nil {
		return hint(fmt.Errorf("logs of run %s: %w", id, err))
	}
	if p.output == outputJSON {
		return p.printJSON(map[string][]logLine{"logs": orEmpty(lines)})
	}
	v := logView{program: p}
	return v.write(lines)
}

// followLogs shows lines until the run has ended, well or not: its logs are
// complete then.
func (p *program) followLogs(ctx context.Context, c *client, id string) error {
	v := &logView{program: p}
	f := newFollower(c, v)
	f.treeless = true
	_, err := f.follow(ctx, id)
	switch {
	case v.err != nil:
		return v.err
	case errors.Is(err, context.Canceled):
		return &exitError{code: codeInterrupted, exit: exitInterrupted, text: "\namber: left run " + id + " alone"}
	}
	return hint(err)
}

// logView shows what a run writes and nothing else; what there is to say of the host goes to stderr.
type logView struct {
	program *program
	lost    bool
	err     error // of stdout
}

func (v *logView) show(s scene) {
	if lost := s.lost > 0; lost != v.lost {
		v.lost = lost
		v.tell(lost)
	}
	if err := v.write(s.logs); err != nil && v.err == nil {
		v.err = err
	}
}

func (v *logView) tell(lost bool) {
	if v.program.output == outputJSON {
		return
	}
	text := "amber: the host is back\n"
	if lost {
		text = "amber: the host cannot answer now, retrying (the run is safe in its database)\n"
	}
	_, _ = io.WriteString(v.program.stderr, text)
}

func (v *logView) write(lines []logLine) error {
	colour := v.program.colours(v.program.stdout)
	for _, l := range lines {
		if v.program.output == outputJSON {
			if err := v.program.printLine(l); err != nil {
				return err
			}
			continue
		}
		b := brush{left: wrapped, colour: colour}
		b.add(dim, l.At.Local().Format("2006-01-02 15:04:05.000"))
		b.add(levels[l.Level], fmt.Sprintf("  %-5s", printable(l.Level)))
		b.add(dim, "  "+printable(l.Task)+": ")
		b.add(plain, printable(l.Message))
		if err := v.program.print(b.String() + "\n"); err != nil {
			return err
		}
	}
	return nil
}
