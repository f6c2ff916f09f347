package main

import (
	"io"
	"log/slog"
)

// newDevLog returns the log of a developer's host: short times, and no details
// unless verbose.
func newDevLog(w io.Writer, verbose bool) *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: brief}
	if verbose {
		options.Level = slog.LevelDebug
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
