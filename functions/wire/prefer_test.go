package wire

import (
	"net/http"
	"testing"
	"time"
)

func TestPreferredWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want time.Duration
		ok   bool
		sent []string
	}{
		{"none", 0, false, nil},
		{"plain", 10 * time.Second, true, []string{"wait=10"}},
		{"zero", 0, true, []string{"wait=0"}},
		{"name in any case, spaces", 5 * time.Second, true, []string{" Wait = 5 "}},
		{"among others", 7 * time.Second, true, []string{"respond-async, wait=7, handling=lenient"}},
		{"in a second header", 7 * time.Second, true, []string{"return=minimal", "wait=7"}},
		{"the first counts", 1 * time.Second, true, []string{"wait=1, wait=2", "wait=3"}},
		{"with parameters", 4 * time.Second, true, []string{"wait=4; foo=bar"}},
		{"quoted", 3 * time.Second, true, []string{`wait="3"`}},
		{"not inside a quoted string", 0, false, []string{`foo="a, wait=9, b"`}},
		{"after an escaped quote", 6 * time.Second, true, []string{`foo="a\", wait=9", wait=6`}},
		{"capped", MaxWait, true, []string{"wait=301"}},
		{"more than a number holds", MaxWait, true, []string{"wait=99999999999999999999999999"}},
		{"negative", 0, false, []string{"wait=-1"}},
		{"no number", 0, false, []string{"wait=soon"}},
		{"no value", 0, false, []string{"wait"}},
		{"another word", 0, false, []string{"waiting=3"}},
		{"empty", 0, false, []string{"", ",,;"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, ok := preferredWait(http.Header{"Prefer": test.sent})
			if got != test.want || ok != test.ok {
				t.Errorf("preferredWait(%q) = %v, %v; want %v, %v", test.sent, got, ok, test.want, test.ok)
			}
		})
	}
}
