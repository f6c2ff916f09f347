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

// JSON answers a request with body, indented by two spaces as the original's
// answers are. A [json.RawMessage] in it keeps the order of its keys and the
// spelling of its numbers and strings.
func JSON(w http.ResponseWriter, status int, body any) {
	text, err := encode(body)
	if err != nil { // only a RawMessage that is not JSON
		status = http.StatusInternalServerError
		text = []byte(`{"error":"The answer has no JSON form.","code":"` + CodeInternal + `"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have left
}

func encode(body any) ([]byte, error) {
	var compact bytes.Buffer
	encoder := json.NewEncoder(&compact)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, err
	}
	if compact.Len() > maxIndentSize || depth(compact.Bytes()) > maxIndentDepth {
		return compact.Bytes(), nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, compact.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	return indented.Bytes(), nil
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
