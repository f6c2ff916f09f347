package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// Bodies beyond these are sent without indentation, which would multiply them
// and which nobody reads.
const (
	maxIndentSize  = 64 << 10
	maxIndentDepth = 64
)

// JSON answers a request with body, indented by two spaces as the answers of
// the original's tasks and quickjs are. A [json.RawMessage] in it keeps the
// order of its keys and the spelling of its numbers and strings.
func JSON(w http.ResponseWriter, status int, body any) {
	text, err := encode(body)
	send(w, status, indent(text), err)
}

// Compact is [JSON] on one line, as the original's other functions answer.
func Compact(w http.ResponseWriter, status int, body any) {
	text, err := encode(body)
	send(w, status, text, err)
}

func send(w http.ResponseWriter, status int, text []byte, err error) {
	if err != nil { // only a RawMessage that is not JSON
		status = http.StatusInternalServerError
		text = []byte(`{"error":"The answer has no JSON form.","code":"` + CodeInternal + `"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have left
}

// encode returns body in one line, which ends as lines do.
func encode(body any) ([]byte, error) {
	var compact bytes.Buffer
	encoder := json.NewEncoder(&compact)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

func indent(text []byte) []byte {
	if len(text) > maxIndentSize || depth(text) > maxIndentDepth {
		return text
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return text // nothing was encoded
	}
	return indented.Bytes()
}

// depth returns how many arrays and objects are open at most in a valid JSON text.
func depth(text []byte) int {
	deepest, open, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return deepest
}
