package host_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/host"
)

// How many bytes a line of the log may have, and one with a stack.
const (
	maxLine  = 2000
	maxStack = 6000
)

// TestLogIsBounded: whatever a request has and a function says, a line of the
// log is short, and is one line of printable text.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler {
			return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
		"json": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := make(logLines, 1000)
			log := slog.New(handler(lines))
			address, sent := hostile(t, log)
			for i := range sent {
				exchange(t, address, sent[i])
			}
			exchange(t, address, "POST /last HTTP/1.1\r\nHost: localhost\r\n\r\n")
			counted := 0
			for last := false; !last; counted++ {
				line := lines.await(t)
				checkLine(t, line)
				last = strings.Contains(line, "/last")
			}
			if counted < len(sent) {
				t.Errorf("%d lines for %d requests", counted, len(sent))
			}
		})
	}
}

// hostile serves functions that log what they are sent, and returns requests for them.
func hostile(t *testing.T, log *slog.Logger) (address string, sent []string) {
	config := host.Config{Log: log, Open: true}
	address = gate(t, config,
		function("fails", func(w http.ResponseWriter, r *http.Request) {
			// Functions log by the host's logger, which host.Host hands them.
			wire.Fail(w, r, host.Bounded(log).With("agent", r.UserAgent()), fmt.Errorf("read %s: %w", r.URL, errors.New(strings.Repeat("\x1b[2J", 10_000))))
		}),
		function("panics", func(_ http.ResponseWriter, r *http.Request) { sink(200, r.URL.Path) }))
	const h = " HTTP/1.1\r\nHost: localhost\r\n"
	for _, tail := range []string{
		strings.Repeat("x", 15_000), strings.Repeat("x", 60_000), strings.Repeat("%00", 5000), strings.Repeat("%0a", 5000),
		strings.Repeat("%ff", 5000), strings.Repeat("%22%5c", 2500), strings.Repeat("%F0%90%80%80", 1000), strings.Repeat("\xff", 15_000),
		"%E2%80%AE%E2%80%A8%1b[31m", "a%0d%0alevel=ERROR msg=forged",
	} {
		for _, name := range []string{"fails", "panics", "nothing"} {
			sent = append(sent, "POST /functions/v1/"+name+"/"+tail+h+"\r\n")
		}
		sent = append(sent, "GET /functions/v1/fails?"+tail+h+"User-Agent: "+strings.Repeat("\xfe", 30_000)+"\r\n\r\n")
	}
	return address, append(sent, strings.Repeat("M", 50_000)+" /"+h+"\r\n")
}

// sink panics below many frames.
func sink(depth int, value string) int {
	if depth == 0 {
		panic(strings.Repeat(value, 100))
	}
	return sink(depth-1, value) + 1
}

// checkLine checks a line of the log.
func checkLine(t *testing.T, line string) {
	t.Helper()
	text, ended := strings.CutSuffix(line, "\n")
	size := maxLine
	if strings.Contains(text, "panic in a request") {
		size = maxStack
	}
	if !ended || len(text) > size {
		t.Errorf("a line of %d bytes: %.300q", len(text), text)
	}
	if odd := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) }); odd >= 0 || !utf8.ValidString(text) {
		t.Errorf("not one line of text, at %d: %.300q", odd, text)
	}
}
