package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Result is what was measured, and where. Its JSON is what amber bench saves.
type Result struct {
	Format   int       `json:"format"` // resultFormat
	At       time.Time `json:"at"`
	Amber    string    `json:"amber"` // its version
	Plan     Plan      `json:"plan"`
	Machine  Machine   `json:"machine"`
	Postgres Postgres  `json:"postgres"`
	Figures  []Figure  `json:"figures"`
	Notes    []string  `json:"notes"` // what could not be measured, and why
}

const resultFormat = 1

// Figure is one number: the median of its rounds.
type Figure struct {
	Name   string    `json:"name"` // "call.p50"
	What   string    `json:"what"` // for people
	Unit   string    `json:"unit"` // ms, /s, bytes, MiB, or "" for a count
	Value  float64   `json:"value"`
	Rounds []float64 `json:"rounds"`
	Less   bool      `json:"less_is_better"`
}

// ReadResult reads a result that amber bench has saved.
func ReadResult(text []byte) (r Result, err error) {
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("it is no result of amber bench: %w", err)
	}
	switch {
	case r.Format == 0 || len(r.Figures) == 0:
		return r, errors.New("it is no result of amber bench: make one with amber bench --save FILE")
	case r.Format != resultFormat:
		return r, fmt.Errorf("it has format %d, and this amber reads %d: measure again", r.Format, resultFormat)
	}
	return r, nil
}

// figure makes a figure of what the rounds gave.
func figure(name, what, unit string, less bool, rounds ...float64) Figure {
	return Figure{Name: name, What: what, Unit: unit, Value: quantile(rounds, 0.5), Rounds: rounds, Less: less}
}

// quantile is the value below which that part of the values is; 0 of none.
func quantile(values []float64, part float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := part * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
