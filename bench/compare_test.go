package bench_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/bench"
)

func result(figures ...bench.Figure) bench.Result {
	return bench.Result{Format: 1, Amber: "one", Figures: figures}
}

// TestVerdicts: what overlaps is the same, and less is not always better.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		a, b bench.Figure
		want string
	}{
		"slower":              {bench.Figure{Value: 2, Rounds: []float64{1, 2, 3}, Less: true}, bench.Figure{Value: 5, Rounds: []float64{4, 5, 6}, Less: true}, "worse"},
		"faster":              {bench.Figure{Value: 5, Rounds: []float64{4, 5, 6}, Less: true}, bench.Figure{Value: 2, Rounds: []float64{1, 2, 3}, Less: true}, "better"},
		"more a second":       {bench.Figure{Value: 2, Rounds: []float64{1, 2, 3}}, bench.Figure{Value: 5, Rounds: []float64{4, 5, 6}}, "better"},
		"fewer a second":      {bench.Figure{Value: 5, Rounds: []float64{4, 5, 6}}, bench.Figure{Value: 2, Rounds: []float64{1, 2, 3}}, "worse"},
		"rounds that overlap": {bench.Figure{Value: 2, Rounds: []float64{1, 2, 4.5}, Less: true}, bench.Figure{Value: 5, Rounds: []float64{4, 5, 6}, Less: true}, "same"},
		"one round, near":     {bench.Figure{Value: 100, Rounds: []float64{100}, Less: true}, bench.Figure{Value: 109, Rounds: []float64{109}, Less: true}, "same"},
		"one round, far":      {bench.Figure{Value: 100, Rounds: []float64{100}, Less: true}, bench.Figure{Value: 120, Rounds: []float64{120}, Less: true}, "worse"},
	} {
		test.a.Name, test.b.Name = "x", "x"
		c := bench.Compare(result(test.a), result(test.b))
		if len(c.Pairs) != 1 || c.Pairs[0].Verdict != test.want || c.Pairs[0].Ratio != test.b.Value/test.a.Value || len(c.Missing)+len(c.Differences) > 0 {
			t.Errorf("%s: %+v, want %s", name, c, test.want)
		}
	}
}

// TestWhatElseDiffers: figures that one result lacks, and whatever else a ratio may come from.
func TestWhatElseDiffers(t *testing.T) {
	t.Parallel()
	a, b := result(bench.Figure{Name: "both"}, bench.Figure{Name: "gone", Unit: "ms"}), result(bench.Figure{Name: "new"}, bench.Figure{Name: "both"})
	b.Amber, b.Machine.CPUs, b.Plan.Clients, b.Postgres.Settings = "two", 8, 64, map[string]string{"fsync": "off"}
	c := bench.Compare(a, b)
	if want := []string{"gone: the second has none", "new: the first has none"}; !slices.Equal(c.Missing, want) {
		t.Errorf("missing: %q, want %q", c.Missing, want)
	}
	if want := []string{"CPUs: 0 and 8", "amber: one and two", "fsync:  and off", "clients: 0 and 64"}; !slices.Equal(c.Differences, want) {
		t.Errorf("differences: %q, want %q", c.Differences, want)
	}
}

func TestReadResult(t *testing.T) {
	t.Parallel()
	r := result(bench.Figure{Name: "call.p50", Unit: "ms", Value: 2, Rounds: []float64{1, 2, 3}, Less: true})
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := bench.ReadResult(text); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%+v, %v, want %+v", back, err, r)
	}
	for text, want := range map[string]string{
		`<html>`: "it is no result of amber bench: invalid character",
		`{}`:     "it is no result of amber bench: make one with",
		`{"format":9,"figures":[{"name":"call.p50"}]}`: "it has format 9, and this amber reads 1: measure again",
	} {
		if _, err := bench.ReadResult([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
