package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
)

// startFlags say how a run is started besides its task and input.
type startFlags struct {
	delay, timeout time.Duration
	at, key        string
	priority       int
}

var startFlagNames = []string{"delay", "at", "priority", "timeout", "idempotency-key"}

func (f *startFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&f.delay, "delay", 0, "begin after this time, 90s or 2h for instance")
	flags.StringVar(&f.at, "at", "", "begin at this time, 2031-01-31T08:00:00Z for instance")
	flags.IntVar(&f.priority, "priority", 0, "of what waits for a host, higher ones come first: -1000 to 1000")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long the run may take in all, waiting included (default any time)")
	flags.StringVar(&f.key, "idempotency-key", "", "start it once under this key: again gives the run that is there")
}

func (f *startFlags) start(cmd *cobra.Command, task string, input json.RawMessage) (s start, err error) {
	s = start{Task: task, Input: input, Priority: f.priority, key: f.key, Scheduled: f.at}
	for _, d := range []struct {
		name string
		of   time.Duration
		to   *int64
	}{{"delay", f.delay, &s.Delay}, {"timeout", f.timeout, &s.Timeout}} {
		if cmd.Flags().Changed(d.name) && d.of < time.Millisecond {
			return s, usagef(cmd, "--%s: %v: want a millisecond or more", d.name, d.of)
		}
		*d.to = d.of.Milliseconds()
	}
	if f.at != "" {
		if _, err := time.Parse(time.RFC3339, f.at); err != nil {
			return s, usagef(cmd, "--at: %q: want a time with a zone, 2031-01-31T08:00:00Z for instance", f.at)
		}
		if f.delay > 0 {
			return s, usagef(cmd, "--at and --delay exclude each other")
		}
	}
	if cmd.Flags().Changed("idempotency-key") && f.key == "" {
		return s, usagef(cmd, "--idempotency-key is empty")
	}
	return s, nil
}
