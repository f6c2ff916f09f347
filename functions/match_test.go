package functions_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// matches says what is wrong with an answer's body; "" if it is as wanted.
func matches(want, got string) string {
	if want == "" || !strings.ContainsAny(want[:1], "{[") {
		if got != want {
			return "not the text"
		}
		return ""
	}
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return "the test's JSON: " + err.Error()
	}
	if err := json.NewDecoder(strings.NewReader(got)).Decode(&g); err != nil && err != io.EOF {
		return err.Error()
	}
	return differ("$", w, g)
}

var pattern = regexp.MustCompile(`^/(.*)/$`)

func differ(at string, want, got any) string {
	switch w := want.(type) {
	case string:
		if w == "*" {
			return ""
		}
		text, ok := got.(string)
		if p := pattern.FindStringSubmatch(w); ok && p != nil {
			if !regexp.MustCompile("^" + p[1] + "$").MatchString(text) {
				return fmt.Sprintf("%s is %q", at, text)
			}
			return ""
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return at + " is no object"
		}
		_, more := w["..."]
		for key := range g {
			if _, ok := w[key]; !ok && !more {
				return at + "." + key + " is there"
			}
		}
		for _, key := range slices.Sorted(maps.Keys(w)) {
			value, ok := g[key]
			if key == "..." {
				continue
			}
			if !ok {
				return at + "." + key + " is missing"
			}
			if problem := differ(at+"."+key, w[key], value); problem != "" {
				return problem
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s has not %d items", at, len(w))
		}
		for i := range w {
			if problem := differ(fmt.Sprintf("%s[%d]", at, i), w[i], g[i]); problem != "" {
				return problem
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, not %v", at, got, want)
	}
	return ""
}
