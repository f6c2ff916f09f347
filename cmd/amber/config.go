package main

import (
	"fmt"
	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
)

func (p *program) configCommand() *cobra.Command {
	var given *settings
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show what is set, and where it was",
		Long: `Show every setting of a host as it is in force, and where that was said: a flag, a variable,
a line of supabase/config.toml, or nowhere. Secrets are not shown. It takes the flags of dev
and serve: put them here to see what they do.

Exit status: 0 a host could start with this, 1 something is wrong or missing, 2 wrong usage.`,
		Example: example(`
			amber config
			amber config --mode serve
			amber config --workdir ../project -o json`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sources, err := given.sourcesOfAny(p, cmd)
			if err != nil {
				return err
			}
			return p.config(sources)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	given = addSettings(cmd, []host.Mode{host.Dev, host.Serve})
	given.addMode(cmd)
	return cmd
}

// value is a setting in JSON.
type value struct {
	Name   string   `json:"name"`
	Value  string   `json:"value"`
	Source string   `json:"source"`
	Env    []string `json:"env"`
	TOML   string   `json:"config_toml"`
}

// config shows the settings even if one is wrong: that is when people look.
func (p *program) config(sources host.Sources) error {
	values, wrong := host.Explain(sources)
	warnings := []string{}
	if wrong == nil {
		config, err := host.Load(sources)
		if wrong = err; err == nil {
			wrong = config.Check()
			warnings = orEmpty(config.Warnings)
		}
	}
	var err error
	if p.output == outputJSON {
		answer := struct {
			Mode     host.Mode `json:"mode"`
			Settings []value   `json:"settings"`
			Warnings []string  `json:"warnings"`
		}{Mode: sources.Mode, Settings: []value{}, Warnings: warnings}
		for _, v := range values {
			answer.Settings = append(answer.Settings, value{v.Name, v.Text, v.Source, orEmpty(v.Env), v.TOML})
		}
		err = p.printJSON(answer)
	} else if len(values) > 0 {
		t := table{head: []string{"SETTING", "VALUE", "FROM"}}
		for _, v := range values {
			text := printable(v.Text)
			if text == "" {
				text = "-"
			}
			t.add(words(v.Name), words(text), words(v.Source))
		}
		err = p.printTable(t)
	}
	if p.output != outputJSON {
		for _, w := range warnings {
			fmt.Fprintf(p.stderr, "warning: %s\n", printable(w))
		}
	}
	if err != nil {
		return err
	}
	return wrong
}
