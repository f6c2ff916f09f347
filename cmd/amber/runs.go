package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// statuses are those that a run can have.
var statuses = []string{"queued", "processing", "suspended", "completed", "failed", "cancelled"}

func (p *program) runsCommand() *cobra.Command {
	var (
		host   target
		filter runFilter
	)
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs, the newest first",
		Long: `List runs, the newest first: those that were started from outside, and with --all those that
other runs have started, too. Whoever has a user's token for a key sees that user's runs.

Times are this machine's.`,
		Example: example(`
			amber runs
			amber runs --task order-fulfilment --status failed
			amber runs --all --limit 0 -o json | jq -r '.runs[].id'`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			return p.runs(cmd.Context(), client, filter)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&filter.task, "task", "", "only runs of this task")
	f.StringVar(&filter.status, "status", "", "only runs in this status: "+strings.Join(statuses, ", "))
	filter.limit = 20
	f.VarP((*limitFlag)(&filter.limit), "limit", "n", "how many at most; 0 for all")
	f.BoolVarP(&filter.nested, "all", "a", false, "also runs that other runs have started")
	host.addTo(cmd)
	_ = cmd.RegisterFlagCompletionFunc("task", p.completeTasks(&host)) // these fail for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// limitFlag is a number that is not negative.
type limitFlag int

func (f *limitFlag) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return errors.New("want a number, 0 for all")
	}
	*f = limitFlag(n)
	return nil
}

func (f *limitFlag) String() string { return strconv.Itoa(int(*f)) }
func (f *limitFlag) Type() string   { return "number" } // in the help

func (p *program) runs(ctx context.Context, c *client, filter runFilter) error {
	rows, err := c.runs(ctx, filter)
	if err != nil {
		return hint(fmt.Errorf("list runs: %w", err))
	}
	if p.output == outputJSON {
		raw := []json.RawMessage{}
		for _, r := range rows {
			raw = append(raw, r.raw)
		}
		return p.printJSON(map[string][]json.RawMessage{"runs": raw})
	}
	if len(rows) == 0 {
		fmt.Fprintln(p.stderr, none(filter))
		return nil
	}
	return p.printTable(runTable(rows, time.Now()))
}

// none says that there are no runs, and what to do about it.
func none(f runFilter) string {
	if f.task != "" || f.status != "" {
		return "no such runs; `" + invocation() + " runs` lists those of all tasks and statuses"
	}
	return "no runs yet; start one with `" + invocation() + " run NAME`"
}

func runTable(rows []runRow, now time.Time) table {
	t := table{head: []string{"RUN", "TASK", "STATUS", "STARTED", "TOOK", "ERROR"}}
	for _, r := range rows {
		took, remark := "", r.remark()
		if r.StartedAt != nil || r.EndedAt != nil {
			started := cmp.Or(timeOf(r.StartedAt), r.CreatedAt)
			took = span(cmp.Or(timeOf(r.EndedAt), now).Sub(started))
		}
		t.add(words(r.ID), words(printable(r.TaskName)), cell{printable(r.Status), colours[phaseOf(r.Status)]},
			words(cmp.Or(timeOf(r.StartedAt), r.CreatedAt).Local().Format(time.DateTime)), words(took), cell{remark, dim})
	}
	return t
}

// remark is what went wrong with a run, "" if nothing did.
func (r runRow) remark() string {
	if r.Stuck != "" && !phaseOf(r.Status).over() {
		return "stuck: " + printable(r.Stuck)
	}
	return printable(reasonOf(r.Error))
}
