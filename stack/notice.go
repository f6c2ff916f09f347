package stack

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// What the host has to say to the author of a task is in the run's log, among the
// task's own lines: what nobody waited for, what was given up, and how a run ended
// that was interrupted. What became of its calls then is said by amber.interrupt, and
// what the engine notices by the prelude.

func info(text string) vm.Log { return vm.Log{At: time.Now(), Level: "info", Message: text} }
func warn(text string) vm.Log { return vm.Log{At: time.Now(), Level: "warn", Message: text} }

// interruptedLine is a line of a run that is interrupted. If it is cancelled,
// somebody wanted that.
func interruptedLine(why, text string) vm.Log {
	if why == interruptCancel {
		return info(interruption(why).Message + " " + text)
	}
	return warn(interruption(why).Message + " " + text)
}

// leftOpen tells the author of a task which calls it did not wait for. Calls of
// its last slice were never sent: an await is missing, unless the task failed, at a
// limit perhaps before it could wait. Earlier ones were, and are what a Promise.race
// leaves.
func leftOpen(out *vm.Outcome, interrupted bool) []vm.Log {
	if len(out.Open) == 0 {
		return nil
	}
	if out.Err != nil && !interrupted {
		return []vm.Log{info(fmt.Sprintf("The task failed while %d of its calls had no reply yet; they were cancelled.", len(out.Open)))}
	}
	var forgotten []string
	for _, c := range out.Calls {
		if slices.Contains(out.Open, c.ID) && len(forgotten) < 5 {
			forgotten = append(forgotten, named(c.Call))
		}
	}
	if len(forgotten) == 0 {
		return []vm.Log{info(fmt.Sprintf("The task ended while %d of its calls had no reply yet; they were cancelled.", len(out.Open)))}
	}
	return []vm.Log{warn(fmt.Sprintf(
		"The task ended without waiting for %s (%d of its calls had no reply yet; they were cancelled). Put await before a call whose effect matters.",
		strings.Join(forgotten, ", "), len(out.Open)))}
}

// tidiedBadly says that a task which was interrupted failed with something else, which
// is the error of no run.
func tidiedBadly(why string, err *service.Error) []vm.Log {
	if why == "" || err == nil {
		return nil
	}
	if own := interruption(why); err.Code == own.Code && err.Message == own.Message {
		return nil
	}
	if err.Code == service.CodeTaskDeadlock {
		return []vm.Log{warn("The task did not tidy up: it waits for a promise that nothing will settle now, one of its own around a setTimeout perhaps. Wait with tools.sleep, which rejects.")}
	}
	text := strings.TrimSuffix(err.Stack, "\n")
	if text == "" {
		text = err.Message
	}
	return []vm.Log{warn("The task failed while it tidied up: " + text)}
}

// forcedEnd says how a run ended that was not waited for any longer. asked is why now.
func forcedEnd(r interruptible, asked string) []vm.Log {
	const off = " It was ended where it was, and what it had not finished was called off."
	switch {
	case r.Interrupt == nil:
		return []vm.Log{interruptedLine(asked, "It had not begun.")}
	case asked == interruptCancel:
		return []vm.Log{warn("The run was cancelled once more while it tidied up." + off)}
	}
	return []vm.Log{warn("The run did not tidy up in the time that it had for that." + off)}
}

// tried is how often a call has been made that ends now.
func (r interruptible) tried() int {
	if r.Status == StatusProcessing {
		return r.Tries + 1
	}
	return r.Tries
}

// queueGivenUp tells the caller of a call that it was tried more than once, in vain.
func queueGivenUp(b *batch, e Ending) {
	tried := fmt.Sprintf("%d times", e.tried)
	if e.tried == 1 {
		tried = "once"
	}
	b.then(`/* end: given up */
		insert into amber.logs (task_run_id, stack_run_id, at, level, message)
		select s.parent_task_run_id, s.parent_stack_run_id, @at, 'warn', @what || ' was tried ' || @tried
			|| coalesce(' in ' || case when t.ms < 1000 then round(t.ms) || ' ms' else round(t.ms / 1000, 1) || ' s' end, '') || ', in vain: ' || @reason
		from public.stack_runs s, lateral (
			select extract(epoch from clock_timestamp() - min(a.started_at)) * 1000 as ms from amber.attempts a
			where a.stack_run_id = s.id and not a.late
				and a.id > coalesce((select max(r.id) from amber.attempts r where r.stack_run_id = s.id and r.retry is not null), 0)) t
		where s.id = @id and s.parent_task_run_id is not null`,
		namedArgs{"id": e.ID, "at": time.Now(), "what": text(e.givenUp), "tried": tried, "reason": text(clip(e.Reply.Err.Message))})
}
