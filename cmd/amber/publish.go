package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/functions/publish"
	"github.com/amberhost/amber/stack"
)

func (p *program) publishCommand() *cobra.Command {
	var host target
	var retention string
	cmd := &cobra.Command{
		Use:   "publish FILE|DIR...",
		Short: "Send tasks to a running host",
		Long: `Send tasks to a running host: files, and all .js and .mjs files below directories.

A task is called as its file is, without the extension; the first JSDoc block of the file
becomes its description. Runs that have started keep the code they started with. A file
that does not parse is refused, and what was published before under its name stays.

With --retention their runs are kept for so long after they have ended, instead of as long
as the host is told; without, that remains as it was.

Exit status: 0 all published, 1 some refused, 2 wrong usage, 3 no host.`,
		Example: example(`
			amber publish hello.js
			amber publish tasks/ more/nightly-report.js
			amber publish audited.js --retention 8760h
			amber publish tasks/ --url https://amber.example.com --key $AMBER_KEY`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "publish takes at least one file or directory")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("retention") {
				if _, err := stack.ParseRetention(retention); err != nil {
					return usagef(cmd, "--retention: %w", err)
				}
			}
			files, err := taskFiles(args)
			if err != nil {
				return usagef(cmd, "%w", err)
			}
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			return p.publishFiles(cmd.Context(), client, files, retention)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Flags().StringVar(&retention, "retention", "", "how long their runs are kept when they have ended, 720h; off keeps them for ever")
	host.addTo(cmd)
	return cmd
}

// published is what amber publish answers in JSON.
type published struct {
	Published []publishedFile `json:"published"`
	Refused   []refusedFile   `json:"refused"`
}

type publishedFile struct {
	Task   string `json:"task"`
	File   string `json:"file"`
	Change string `json:"change"` // created, updated or unchanged
}

type refusedFile struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// publishFiles publishes each file and tells what that changed. A file that is
// refused does not hold up the others; a host that does not answer does.
func (p *program) publishFiles(ctx context.Context, c *client, files []string, retention string) error {
	answer := published{Published: []publishedFile{}, Refused: []refusedFile{}}
	taken := make(map[string]string)
	for _, file := range files {
		name, change, err := publishFile(ctx, c, file, retention, taken)
		var unreachable *unreachableError
		switch {
		case errors.As(err, &unreachable) || ctx.Err() != nil:
			return err
		case err != nil:
			answer.Refused = append(answer.Refused, refusedFile{file, err.Error()})
		default:
			answer.Published = append(answer.Published, publishedFile{name, file, change})
		}
		if p.output == outputJSON {
			continue
		}
		if err != nil {
			fmt.Fprintf(p.stderr, "%-9s  %v\n", "refused", err)
		} else if err := p.print(fmt.Sprintf("%-9s  %s  (%s)\n", change, name, file)); err != nil {
			return err
		}
	}
	if p.output == outputJSON {
		if err := p.printJSON(answer); err != nil {
			return err
		}
	}
	if refused := len(answer.Refused); refused > 0 {
		return fmt.Errorf("%d of %d files refused", refused, len(files))
	}
	return nil
}

// publishFile's error begins with the file, and the line and column if the code does not parse.
func publishFile(ctx context.Context, c *client, file, retention string, taken map[string]string) (name, change string, err error) {
	source, err := publish.Read(os.DirFS(filepath.Dir(file)), filepath.Base(file))
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", file, err)
	}
	if other, ok := taken[source.Name]; ok {
		return "", "", fmt.Errorf("%s: %s is called %s too", file, other, source.Name)
	}
	taken[source.Name] = file
	source.Retention = retention
	change, err = c.publish(ctx, source)
	var api *apiError
	switch {
	case errors.As(err, &api) && api.Line > 0:
		return "", "", fmt.Errorf("%s:%d:%d: %s", file, api.Line, api.Column, printable(api.Message))
	case err != nil:
		return "", "", fmt.Errorf("%s: %w", file, hint(err))
	}
	return source.Name, change, nil
}

// taskFiles returns the files that args name, those of directories in order.
func taskFiles(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no file or directory %s", arg)
		}
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if !publish.IsTaskFile(arg) {
				return nil, fmt.Errorf("%s is not a task: its name must end in .js or .mjs", arg)
			}
			files = append(files, arg)
			continue
		}
		below, err := publish.List(os.DirFS(arg))
		if err != nil {
			return nil, err
		}
		if len(below.Files) == 0 {
			return nil, fmt.Errorf("there is no .js or .mjs file below %s", arg)
		}
		for _, file := range below.Files {
			files = append(files, filepath.Join(arg, filepath.FromSlash(file)))
		}
	}
	return files, nil
}
