package main

import (
	"cmp"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
)

// settings are the flags of a command that make a host's configuration: those
// of the table of settings that host keeps.
type settings struct {
	values map[string]*settingFlag
	mode   string // --mode; "" for commands that have one mode, or if it was not given
}

// settingFlag is a setting as it was given; host reads it.
type settingFlag struct {
	text string
	kind string // in the help
}

func (f *settingFlag) Set(text string) error { f.text = text; return nil }
func (f *settingFlag) String() string        { return f.text }
func (f *settingFlag) Type() string          { return f.kind }

// kinds are what the help calls the values of settings; "text" if it is not here.
var kinds = map[string]string{
	"workdir": "dir", "tasks": "dir", "data": "dir", "cache": "dir", "postgres-bin": "dir", "signing-keys-path": "file",
	"port": "number", "db-port": "number", "pool-size": "number", "max-bodies": "number", "max-queued": "number",
	"url": "url", "database-url": "url", "postgres-repository": "url", "project-url": "url",
	"database-wait": "duration", "drain": "duration", "drain-notice": "duration", "retention": "duration|off", "body-limit": "size", "memory": "size",
	"limit-cpu": "duration", "limit-run-cpu": "duration", "limit-memory": "size", "limit-value": "size", "limit-snapshot": "size",
	"limit-calls": "number", "limit-depth": "number", "limit-nested": "number",
	"limit-log-lines": "number", "limit-log-bytes": "size", "limit-run-log-lines": "number", "limit-run-log-bytes": "size",
	"log-level": "level", "log-format": "text|json", "migrate": "auto|check",
}

// addSettings gives cmd a flag for each setting of the modes, or for those that are named alone.
func addSettings(cmd *cobra.Command, modes []host.Mode, only ...string) *settings {
	s := &settings{values: make(map[string]*settingFlag)}
	for _, mode := range modes {
		for _, setting := range host.Settings(mode) {
			if s.values[setting.Name] != nil || len(only) > 0 && !slices.Contains(only, setting.Name) {
				continue
			}
			v := &settingFlag{kind: cmp.Or(kinds[setting.Name], "text")}
			s.values[setting.Name] = v
			cmd.Flags().Var(v, setting.Name, describeSetting(setting))
			if v.kind == "dir" {
				_ = cmd.MarkFlagDirname(setting.Name) // fails for a flag that is not there
			}
		}
	}
	cmd.Flags().SortFlags = false
	return s
}

// addMode gives cmd the flag --mode, for commands about any host's configuration.
func (s *settings) addMode(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.mode, "mode", "", "whose settings: dev or serve (default serve if its database is given, else dev)")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{string(host.Dev), string(host.Serve)}, cobra.ShellCompDirectiveNoFileComp))
}

// describeSetting is a flag's line in the help.
func describeSetting(s host.Setting) string {
	var more []string
	for _, name := range s.Env {
		more = append(more, "$"+name)
	}
	help := strings.ReplaceAll(s.Help, "`", "")
	text := help
	if len(more) > 0 {
		text += " (" + strings.Join(more, ", ") + ")"
	}
	if s.Default != "" {
		text += " (default " + s.Default + ")"
	}
	return text
}

// sources are where the configuration of a mode comes from.
func (s *settings) sources(p *program, cmd *cobra.Command, mode host.Mode) host.Sources {
	given := make(map[string]string)
	for name, v := range s.values {
		if cmd.Flags().Changed(name) {
			given[name] = v.text
		}
	}
	return host.Sources{Mode: mode, Flags: given, Getenv: p.getenv, Environ: p.environ}
}

// sourcesOfAny is sources for the mode that --mode names, or else the one that
// what is given is for.
func (s *settings) sourcesOfAny(p *program, cmd *cobra.Command) (host.Sources, error) {
	switch mode := host.Mode(s.mode); mode {
	case host.Dev, host.Serve:
		return s.sources(p, cmd, mode), nil
	case "":
		return s.sources(p, cmd, s.guess(p, cmd)), nil
	}
	return host.Sources{}, usagef(cmd, "--mode: %q is no mode: want dev or serve", s.mode)
}

// guess is serve where a database is given that dev has no business with:
// another machine's, or one that has its keys beside it.
func (s *settings) guess(p *program, cmd *cobra.Command) host.Mode {
	values, err := host.Explain(s.sources(p, cmd, host.Serve))
	given := make(map[string]bool)
	for _, v := range values {
		given[v.Name] = v.Source != "default" && v.Text != ""
	}
	if err != nil || !given["database-url"] {
		return host.Dev
	}
	if _, err := host.Load(s.sources(p, cmd, host.Dev)); err != nil || given["amber-keys"] {
		return host.Serve
	}
	return host.Dev
}

// load reads the configuration, and gives it a log.
func (s *settings) load(p *program, cmd *cobra.Command, sources host.Sources) (host.Config, error) {
	config, err := host.Load(sources)
	if err != nil {
		return config, usagef(cmd, "%w", err)
	}
	config.Log = p.hostLog(config, sources)
	return config, nil
}

// loadExisting is load for commands that look after a database: unless --mode
// says so, none of them makes an embedded one by the way.
func (s *settings) loadExisting(p *program, cmd *cobra.Command, sources host.Sources) (host.Config, error) {
	config, err := s.load(p, cmd, sources)
	if err != nil || s.mode != "" {
		return config, err
	}
	found, err := config.HasDatabase()
	if err == nil && !found {
		err = usagef(cmd, "there is no database: set DATABASE_URL or give --database-url (amber dev would make one in %s; --mode dev means that one)", config.DataDir)
	}
	return config, err
}

// hostLog returns the log of a host. Unless a format was asked for, people get
// text, and whatever collects the lines of a serving host gets JSON.
func (p *program) hostLog(config host.Config, sources host.Sources) *slog.Logger {
	format := config.LogFormat
	_, terminal := terminalOf(p.stderr, p.getenv)
	if sources.Mode == host.Serve && !terminal && !givenSetting(sources, "log-format") {
		format = "json"
	}
	if p.output == outputJSON && !givenSetting(sources, "log-format") {
		format = "json"
	}
	return newLog(p.stderr, format, config.LogLevel, terminal || sources.Mode == host.Dev)
}

func givenSetting(sources host.Sources, name string) bool {
	values, _ := host.Explain(sources)
	return slices.ContainsFunc(values, func(v host.Value) bool { return v.Name == name && v.Source != "default" })
}

// newLog returns a log in text or json; brief text has short times.
func newLog(w io.Writer, format string, level slog.Level, short bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	if short {
		options.ReplaceAttr = brief
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// brief leaves of a line's head the time of day, and the level if it is not the usual one.
func brief(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		a.Value = slog.StringValue(a.Value.Time().Format("15:04:05.000"))
	case a.Key == slog.LevelKey && a.Value.Any() == slog.LevelInfo:
		return slog.Attr{}
	}
	return a
}
