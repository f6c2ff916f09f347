package stack

import (
	"cmp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// queueLogs appends a slice's console lines.
func queueLogs(b *batch, stackRun, taskRun uuid.UUID, logs []vm.Log) {
	if len(logs) == 0 {
		return
	}
	at := make([]time.Time, len(logs))
	level := make([]string, len(logs))
	message := make([]string, len(logs))
	for i, l := range logs {
		at[i], level[i], message[i] = l.At, l.Level, text(l.Message)
	}
	b.Queue(`/* logs */
		insert into amber.logs (task_run_id, stack_run_id, at, level, message)
		select @task_run, @stack_run, u.at, u.level, u.message
		from unnest(@at::timestamptz[], @level::text[], @message::text[]) with ordinality as u (at, level, message, n)
		order by u.n`,
		namedArgs{"task_run": taskRun, "stack_run": stackRun, "at": at, "level": level, "message": message})
}

// text makes s fit Postgres's text: valid UTF-8 without NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// storable returns e with texts that jsonb can hold.
func storable(e *service.Error) *service.Error {
	c := *e
	c.Message, c.Name, c.Code, c.Stack = text(e.Message), text(cmp.Or(e.Name, "Error")), text(e.Code), text(e.Stack)
	return &c
}
