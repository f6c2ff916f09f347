package host

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf8"
)

// What a value may take of a log line, in bytes as slog's handlers write it.
const (
	maxLogged      = 400
	maxLoggedStack = 4000
)

// bounded returns a logger whose lines are short, whatever a client sends and a
// database answers: it cuts texts off.
func bounded(log *slog.Logger) *slog.Logger {
	if _, ok := log.Handler().(boundedHandler); ok {
		return log
	}
	return slog.New(boundedHandler{log.Handler()})
}

type boundedHandler struct{ slog.Handler }

func (h boundedHandler) Handle(ctx context.Context, r slog.Record) error {
	short := slog.NewRecord(r.Time, r.Level, clip(r.Message, maxLogged), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		short.AddAttrs(clipAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, short)
}

func (h boundedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	short := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		short[i] = clipAttr(a)
	}
	return boundedHandler{h.Handler.WithAttrs(short)}
}

func (h boundedHandler) WithGroup(name string) slog.Handler {
	return boundedHandler{h.Handler.WithGroup(name)}
}

func clipAttr(a slog.Attr) slog.Attr {
	size := maxLogged
	if a.Key == "stack" {
		size = maxLoggedStack
	}
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(clip(v.String(), size))
	case slog.KindAny:
		if text := fmt.Sprint(v.Any()); clip(text, size) != text {
			a.Value = slog.StringValue(clip(text, size))
		}
	case slog.KindGroup:
		group := make([]slog.Attr, len(v.Group()))
		for i, inner := range v.Group() {
			group[i] = clipAttr(inner)
		}
		a.Value = slog.GroupValue(group...)
	}
	return a
}

// clip returns the beginning of s that takes at most size bytes when it is
// quoted, in Go's way or in JSON's, and an ellipsis if that is not all.
func clip(s string, size int) string {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\' || r == '\n' || r == '\t':
			size -= 2
		case r >= ' ' && r <= '~':
			size--
		default:
			size -= 10 // \U0010ffff
		}
		if size < 0 {
			return s[:i] + "…"
		}
		i += n
	}
	return s
}
