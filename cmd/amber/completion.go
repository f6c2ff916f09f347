package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// shells are what cobra writes completions for, and where each wants them.
var shells = []struct {
	name  string
	write func(root *cobra.Command, b *strings.Builder) error
}{
	{"bash", func(root *cobra.Command, b *strings.Builder) error { return root.GenBashCompletionV2(b, true) }},
	{"zsh", func(root *cobra.Command, b *strings.Builder) error { return root.GenZshCompletion(b) }},
	{"fish", func(root *cobra.Command, b *strings.Builder) error { return root.GenFishCompletion(b, true) }},
	{"powershell", func(root *cobra.Command, b *strings.Builder) error {
		return root.GenPowerShellCompletionWithDesc(b)
	}},
}

func (p *program) completionCommand() *cobra.Command {
	names := make([]string, len(shells))
	for i, s := range shells {
		names[i] = s.name
	}
	list := strings.Join(names, "|")
	return &cobra.Command{
		Use:   "completion " + list,
		Short: "Print a script that makes a shell complete amber's commands",
		Long: `Print a script that makes a shell complete amber's commands and flags with the Tab key, and,
if a host answers, the names of its tasks and the ids of its latest runs.`,
		Example: example(`
			source <(amber completion bash)                            # for this shell
			amber completion bash > /etc/bash_completion.d/amber       # for all to come
			amber completion zsh > "${fpath[1]}/_amber"
			amber completion fish > ~/.config/fish/completions/amber.fish
			amber completion powershell | Out-String | Invoke-Expression`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "completion takes the name of one shell: %s", list)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range shells {
				if s.name != args[0] {
					continue
				}
				var b strings.Builder
				if err := s.write(cmd.Root(), &b); err != nil {
					return fmt.Errorf("write completions: %w", err)
				}
				if p.output == outputJSON {
					return p.printJSON(map[string]string{"shell": s.name, "script": b.String()})
				}
				return p.print(b.String())
			}
			return usagef(cmd, "%q is not a shell that amber completes for: want one of %s", args[0], list)
		},
		ValidArgsFunction: cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp),
	}
}

// aboutWidth is how much of a task's description fits beside its name.
const aboutWidth = 80

// completesWithin is how long a shell's user is kept waiting for a host.
const completesWithin = 700 * time.Millisecond

// completeTasks completes the name of a task of the host.
func (p *program) completeTasks(t *target) cobra.CompletionFunc {
	return p.complete(t, func(ctx context.Context, c *client) ([]string, error) {
		tasks, err := c.tasks(ctx)
		var names []string
		for _, t := range tasks {
			about, _, _ := strings.Cut(t.Description, "\n")
			names = append(names, printable(t.Name)+"\t"+fit(printable(about), aboutWidth))
		}
		return names, err
	})
}

// completeRuns completes the id of a run: the latest ones.
func (p *program) completeRuns(t *target) cobra.CompletionFunc {
	return p.complete(t, func(ctx context.Context, c *client) ([]string, error) {
		rows, err := c.runs(ctx, runFilter{limit: 20})
		var ids []string
		for _, r := range rows {
			ids = append(ids, r.ID+"\t"+printable(r.TaskName)+" "+printable(r.Status))
		}
		return ids, err
	})
}

// complete offers what a host says, for the first argument. No answer is no
// offer: a shell is no place for an error.
func (p *program) complete(t *target, ask func(context.Context, *client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := t.client(cmd, p.getenv)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), completesWithin)
		defer cancel()
		found, err := ask(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
