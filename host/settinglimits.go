package host

import (
	"math"
	"strconv"
	"time"

	"github.com/amberhost/amber/vm"
)

// limitTable is what a task may use: see [vm.Limits] and [stack.Config].
func limitTable() []setting {
	limit := func(name, env, help, value string, take func(*Config, given) error) setting {
		return setting{Setting: Setting{Name: name, Env: []string{env}, Help: help}, value: value, take: take}
	}
	return []setting{
		limit("limit-cpu", "AMBER_LIMIT_CPU", "how long a task may compute between two awaits", "10s",
			spell(func(l *vm.Limits, d time.Duration) { l.CPU = d })),
		limit("limit-run-cpu", "AMBER_LIMIT_RUN_CPU", "how long a run may compute in all", "10m",
			spell(func(l *vm.Limits, d time.Duration) { l.RunCPU = d })),
		limit("limit-memory", "AMBER_LIMIT_MEMORY", "how large a task's heap may be; runs that wait and take more are left to hosts with a larger one", "64MiB",
			bytesOf(func(l *vm.Limits, n int64) { l.Memory = uint32(n) }, 4<<20, 1<<30)),
		limit("limit-calls", "AMBER_LIMIT_CALLS", "how many calls of a run may be in flight; more of them wait their turn", "1000",
			count(func(c *Config) *int { return &c.TaskLimits.Calls }, 1, 1_000_000)),
		limit("limit-depth", "AMBER_LIMIT_DEPTH", "how deep tasks may be nested in each other", "1000",
			count(func(c *Config) *int { return &c.MaxDepth }, 1, 1_000_000)),
		limit("limit-nested", "AMBER_LIMIT_NESTED", "how many tasks a run and those nested in it may start, about", "100000",
			count(func(c *Config) *int { return &c.MaxNested }, 1, math.MaxInt32)),
		limit("limit-value", "AMBER_LIMIT_VALUE", "how large a result, a reply, an input, or the arguments of a call may be", "8MiB",
			bytesOf(func(l *vm.Limits, n int64) { l.Value = int(n) }, 1<<10, 256<<20)),
		limit("limit-snapshot", "AMBER_LIMIT_SNAPSHOT", "how large a waiting task may be, compressed", "16MiB",
			bytesOf(func(l *vm.Limits, n int64) { l.Snapshot = int(n) }, 64<<10, 256<<20)),
		limit("limit-log-lines", "AMBER_LIMIT_LOG_LINES", "how many lines a task may log between two awaits", "10000",
			count(func(c *Config) *int { return &c.TaskLimits.Lines }, 2, math.MaxInt32)),
		limit("limit-log-bytes", "AMBER_LIMIT_LOG_BYTES", "how many bytes those may have", "4MiB",
			bytesOf(func(l *vm.Limits, n int64) { l.LineBytes = int(n) }, 1<<10, 1<<30)),
		limit("limit-run-log-lines", "AMBER_LIMIT_RUN_LOG_LINES", "how many lines a run may log in all", "100000",
			count(func(c *Config) *int { return &c.TaskLimits.RunLines }, 2, math.MaxInt32)),
		limit("limit-run-log-bytes", "AMBER_LIMIT_RUN_LOG_BYTES", "how many bytes those may have", "32MiB",
			bytesOf(func(l *vm.Limits, n int64) { l.RunLineBytes = int(n) }, 1<<10, 1<<30)),
	}
}

// spell takes a time for one of the limits, up to 1,000 hours.
func spell(put func(*vm.Limits, time.Duration)) func(*Config, given) error {
	return func(c *Config, g given) error {
		var d time.Duration
		if err := duration(func(*Config) *time.Duration { return &d }, time.Millisecond)(c, g); err != nil {
			return err
		}
		if most := 1000 * time.Hour; d > most {
			return g.errorf("%q: want at most %v", g.text, most)
		}
		put(&c.TaskLimits, d)
		return nil
	}
}

// bytesOf takes a size from least to most for one of the limits.
func bytesOf(put func(*vm.Limits, int64), least, most int64) func(*Config, given) error {
	return func(c *Config, g given) error {
		var n int64
		if err := size(func(*Config) *int64 { return &n })(c, g); err != nil {
			return err
		}
		if n < least || n > most {
			return g.errorf("%q: want a size from %s to %s", g.text, sizeOf(least), sizeOf(most))
		}
		put(&c.TaskLimits, n)
		return nil
	}
}

// sizeOf spells a size as it may be given.
func sizeOf(n int64) string {
	unit := ""
	for _, larger := range []string{"KiB", "MiB", "GiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return strconv.FormatInt(n, 10) + unit
}
