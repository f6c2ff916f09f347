package wire

import (
	"net/http"
	"strings"
	"time"
)

// MaxWait bounds what a client may prefer to wait.
const MaxWait = 300 * time.Second

// PreferredWait returns the wait preference of RFC 7240, at most [MaxWait], and
// tells the client that it is heeded; ok is false if there is none that can be
// understood. Of several the first counts.
func PreferredWait(w http.ResponseWriter, r *http.Request) (patience time.Duration, ok bool) {
	patience, ok = preferredWait(r.Header)
	if ok {
		w.Header().Set("Preference-Applied", "wait")
	}
	return patience, ok
}

func preferredWait(header http.Header) (patience time.Duration, ok bool) {
	for _, line := range header.Values("Prefer") {
		for _, preference := range splitQuoted(line, ',') {
			parameters := splitQuoted(preference, ';')
			name, value, _ := strings.Cut(parameters[0], "=")
			if strings.EqualFold(strings.TrimSpace(name), "wait") {
				return seconds(strings.Trim(value, " \t\""))
			}
		}
	}
	return 0, false
}

func seconds(text string) (d time.Duration, ok bool) {
	if text == "" {
		return 0, false
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		d = min(10*d+time.Duration(c-'0')*time.Second, MaxWait)
	}
	return d, true
}

// splitQuoted splits at separators that are not inside a quoted string.
func splitQuoted(s string, separator byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == separator:
			parts, start = append(parts, s[start:i]), i+1
		}
	}
	return append(parts, s[start:])
}
