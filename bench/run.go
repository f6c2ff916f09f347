package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/host"
)

// Options say what is measured and where. Config is required.
type Options struct {
	// Config is of the hosts, but for where they listen, who may call them and the
	// tasks that they publish. Without a DatabaseURL its DataDir is for an embedded
	// Postgres, see [Temporary].
	Config host.Config
	Plan   Plan
	Only   []string // workloads, by name; none means all
	// BesideOthers measures although other hosts, or runs that have not ended, use the database.
	BesideOthers bool
	Amber        string            // which amber this is
	Progress     func(what string) // hears what is about to be measured; nil: nobody
}

// workload is one thing that is measured.
type workload struct {
	name, what string
	measure    func(context.Context, *stage) ([]Figure, error)
}

// workloads in the order in which they are measured: memory first, while this
// process has done nothing else.
var workloads = []workload{
	{"bare", "commits of one row, without amber", bare},
	{"parked", "memory, and runs that wait", parked},
	{"call", "nested calls of a service, one after the other", sequential("call", taskCalls)},
	{"long", "the last calls of a long task against its first", long},
	{"calls", "nested calls of a service, many tasks at once", atOnce("calls", taskCalls)},
	{"task", "nested tasks, one after the other", sequential("task", taskNests)},
	{"tasks", "nested tasks, many tasks at once", atOnce("tasks", taskNests)},
	{"start", "requests that start a task and wait for its result", start},
	{"wake", "rows that another session inserts", wake},
	{"cost", "commits, statements and WAL of nested calls", cost},
}

// Workloads are the names that Options.Only may have, and what each measures.
func Workloads() (list [][2]string) {
	for _, w := range workloads {
		list = append(list, [2]string{w.name, w.what})
	}
	return list
}

// CheckOnly refuses names that Options.Only may not have.
func CheckOnly(only []string) error {
	_, err := chosen(only)
	return err
}

func chosen(only []string) ([]workload, error) {
	if len(only) == 0 {
		return workloads, nil
	}
	var list []workload
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
		if slices.Contains(only, w.name) {
			list = append(list, w)
		}
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no workload %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	return list, nil
}

// Run measures. Whatever comes, and also when ctx is cancelled, it removes again
// what it made in the database, but for the schema of an embedded one.
func Run(ctx context.Context, o Options) (r Result, err error) {
	list, err := chosen(o.Only)
	if err != nil {
		return Result{}, err
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	r = Result{Format: resultFormat, At: time.Now().UTC(), Amber: o.Amber, Plan: o.Plan, Machine: thisMachine(), Figures: []Figure{}, Notes: []string{}}
	s, err := newStage(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		closed := s.close(ctx)
		if closed != nil && ctx.Err() != nil { // whoever interrupts hears of nothing else
			s.config.Log.Error("tidy up", "err", closed)
		} else {
			err = errors.Join(err, closed)
		}
	}()
	if r.Postgres, err = s.postgres(ctx); err != nil {
		return Result{}, err
	}
	for _, w := range list {
		o.Progress(w.what)
		figures, err := w.measure(ctx, s)
		if err == nil {
			err = s.clear(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return Result{}, ctx.Err()
			}
			return Result{}, fmt.Errorf("workload %s: %w", w.name, err)
		}
		r.Figures = append(r.Figures, figures...)
	}
	r.Notes = append(r.Notes, s.notes...)
	return r, nil
}
