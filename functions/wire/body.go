package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"
)

// Object is a JSON object whose values are the bytes that the client sent:
// nothing in them has been decoded and encoded again.
type Object map[string]json.RawMessage

// ReadObject reads the body of a request, which is to be a JSON object whatever
// its Content-Type says; of a name given twice the last value counts. Its errors
// are fit for the client.
func ReadObject(r *http.Request) (Object, error) {
	text, err := ReadBody(r)
	if err != nil {
		return nil, err
	}
	return ParseObject(r, text)
}

// ReadBody reads the body of a request, UTF-8 with or without a byte order mark.
func ReadBody(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, readError(err)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return nil, invalidJSON("the body is UTF-16: send UTF-8")
	case !utf8.Valid(text):
		return nil, invalidJSON("the body is not UTF-8")
	}
	return text, nil
}

// ParseObject is the second half of [ReadObject], for text that [ReadBody] has read.
func ParseObject(r *http.Request, text []byte) (Object, error) {
	var object Object
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, invalidJSON(explain(err) + form(r))
	}
	if object == nil {
		return nil, invalidJSON("want an object, not null")
	}
	return object, nil
}

// String returns the string under name; "" if there is none or it is null. ok
// is false if there is something else.
func (o Object) String(name string) (s string, ok bool) {
	value := o[name]
	if !o.Has(name) {
		return "", true
	}
	return s, json.Unmarshal(value, &s) == nil
}

// Has reports whether there is something other than null under name.
func (o Object) Has(name string) bool {
	value, ok := o[name]
	return ok && string(value) != "null"
}

// First returns the name of the first of names under which there is something
// other than null; "" if there is none.
func (o Object) First(names ...string) string {
	for _, name := range names {
		if o.Has(name) {
			return name
		}
	}
	return ""
}

func readError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return TooLarge(tooLarge.Limit)
	}
	if problem := (*Problem)(nil); errors.As(err, &problem) {
		return problem
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Problem{Status: http.StatusRequestTimeout, Code: CodeTimeout,
			Message: "The request body took too long to arrive."}
	}
	return &Problem{Status: http.StatusBadRequest, Code: CodeInvalidRequest,
		Message: "The request body could not be read.", Details: err.Error()}
}

// TooLarge is the problem of a request body over limit bytes.
func TooLarge(limit int64) *Problem {
	return &Problem{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge,
		Message: fmt.Sprintf("The request body is larger than %d bytes.", limit)}
}

func invalidJSON(details string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: CodeInvalidJSON,
		Message: "Invalid JSON request body.", Details: details}
}

func explain(err error) string {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("%v, at byte %d", err, syntax.Offset)
	case errors.As(err, &mismatch):
		return "want an object, not " + mismatch.Value
	}
	return err.Error()
}

// form says so of a body that did not parse and is said to be a form. One that
// does parse may be called anything: curl calls what it sends a form.
func form(r *http.Request) string {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" || strings.HasPrefix(kind, "multipart/") {
		return " (it is called a form, " + kind + ": send a JSON object)"
	}
	return ""
}
