package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// tidyTime is how long amber cancel waits for a run that tidies up: a little more
// than a host gives it unless it is set otherwise.
const tidyTime = 12 * time.Second

func (p *program) cancelCommand() *cobra.Command {
	var host target
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Cancel a run",
		Long: `Ask a run to end. What it awaits is rejected with a CancelledError, first in the runs that it
has started; it then has some time to tidy up, 10 s unless the host's grace says otherwise. Whatever
it returns, it ends as cancelled. To end it without that, cancel it once more. A run that has ended
stays as it is.

Exit status: 0 it has ended or will, 1 there is no such run, 2 wrong usage, 3 no host.`,
		Example: example(`
			amber cancel 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b
			amber runs --status suspended -o json | jq -r '.runs[].id' | xargs -n 1 amber cancel`),
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			return p.cancel(cmd.Context(), client, args[0])
		},
		ValidArgsFunction: p.completeRuns(&host),
	}
	host.addTo(cmd)
	return cmd
}

func (p *program) cancel(ctx context.Context, c *client, id string) error {
	run, err := c.cancel(ctx, id, tidyTime)
	if err != nil {
		return hint(fmt.Errorf("cancel: %w", err))
	}
	if p.output == outputJSON {
		return p.printJSON(run.raw)
	}
	if phaseOf(run.Status).over() {
		return p.print(fmt.Sprintf("%s is %s\n", run.ID, printable(run.Status)))
	}
	return p.print(fmt.Sprintf("%s was asked to end and tidies up; to end it at once: %s cancel %s%s\n", run.ID, invocation(), run.ID, c.again))
}

func (p *program) retryCommand() *cobra.Command {
	var (
		host    target
		current bool
		detach  bool
	)
	cmd := &cobra.Command{
		Use:   "retry RUN",
		Short: "Have a failed run go on",
		Long: `Have a failed run go on from its last await: calls that failed are made again, under a new
key; if its code threw, the code after that await runs again, with the answers that it had.
Calls that were answered are not made again.

With --with-current-code it starts over, with the input that it had and the code that is
published now.

The run is watched as amber run does it, or with --detach its id printed.

Exit status: 0 completed, 1 failed or stuck, or it cannot be retried, 2 wrong usage, 3 no host,
130 left by Ctrl-C.`,
		Example: example(`
			amber retry 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b
			amber publish tasks/charge-card.js && amber retry RUN --with-current-code`),
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			id, err := client.retry(cmd.Context(), args[0], current)
			if err != nil {
				return hintRetry(fmt.Errorf("retry: %w", err), args[0], client.again)
			}
			return p.again(cmd.Context(), client, id, detach)
		},
		ValidArgsFunction: p.completeRuns(&host),
	}
	cmd.Flags().BoolVar(&current, "with-current-code", false, "start over, with the code that is published now")
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "print the run's id and watch nothing")
	host.addTo(cmd)
	return cmd
}

func (p *program) rerunCommand() *cobra.Command {
	var (
		host   target
		detach bool
	)
	cmd := &cobra.Command{
		Use:   "rerun RUN",
		Short: "Start a run again",
		Long: `Start a new run of the same task with the same input, whatever became of the first one.

It is watched as amber run does it, or with --detach its id printed.

Exit status: 0 completed, 1 failed or stuck, or there is no such run, 2 wrong usage, 3 no host,
130 left by Ctrl-C.`,
		Example: example(`
			amber rerun 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b`),
		Args: oneRun,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			id, err := client.rerun(cmd.Context(), args[0])
			if err != nil {
				return hint(fmt.Errorf("rerun: %w", err))
			}
			return p.again(cmd.Context(), client, id, detach)
		},
		ValidArgsFunction: p.completeRuns(&host),
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "print the run's id and watch nothing")
	host.addTo(cmd)
	return cmd
}

// hintRetry adds the command that works for each run which cannot be retried.
func hintRetry(err error, id, again string) error {
	var api *apiError
	if errors.As(err, &api) && api.Code == "NOT_RETRYABLE" {
		return fmt.Errorf("%w\nA rerun is `%s rerun %s%s`", err, invocation(), id, again)
	}
	return hint(err)
}

// again watches a run whose task is not known here.
func (p *program) again(ctx context.Context, c *client, id string, detach bool) error {
	run, err := c.run(ctx, id)
	if err != nil {
		return hint(err)
	}
	return p.begun(ctx, c, run.TaskName, id, detach)
}
