package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
)

// newDevLog returns the log of a developer's host: short times, and no line for
// a request that only looks at something, unless verbose. A watcher looks
// several times a second.
func newDevLog(w io.Writer, verbose bool) *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: brief}
	if verbose {
		options.Level = slog.LevelDebug
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(lookless{slog.NewTextHandler(w, options)})
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

// lookless drops the lines of GET requests that were answered.
type lookless struct{ slog.Handler }

func (h lookless) Handle(ctx context.Context, r slog.Record) error {
	var method string
	var status int64
	if r.Message == "request" {
		r.Attrs(func(a slog.Attr) bool {
			switch {
			case a.Key == "method":
				method = a.Value.String()
			case a.Key == "status" && a.Value.Kind() == slog.KindInt64:
				status = a.Value.Int64()
			}
			return true
		})
	}
	if method == http.MethodGet && status < 400 {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h lookless) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lookless{h.Handler.WithAttrs(attrs)}
}

func (h lookless) WithGroup(name string) slog.Handler { return lookless{h.Handler.WithGroup(name)} }
