package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// leads are what brings hosts, or amber keys, to points that they seldom come to.
var leads = []struct {
	point string // or a part of it
	do    func(ctx context.Context, p *play, n int)
}{
	{"RetryRun", func(ctx context.Context, p *play, _ int) { p.retrySome(ctx) }},
	{"retry run", func(ctx context.Context, p *play, _ int) { p.retrySome(ctx) }},
	{"seal", func(ctx context.Context, p *play, n int) { p.reseal(ctx, n) }},
	{"forgetKeys", func(ctx context.Context, p *play, n int) { p.reseal(ctx, n) }},
	{"epths", func(ctx context.Context, p *play, _ int) { _ = p.ask(ctx, http.MethodGet, "/metrics", nil, "") }},
	{"Recorded", func(ctx context.Context, p *play, _ int) { p.rerun(ctx) }},
	{"Cancel: run", func(ctx context.Context, p *play, _ int) { p.cancelUnbegun(ctx) }},
}

// hunt leads hosts of a long run to points at which none has died yet.
func (p *play) hunt(ctx context.Context) {
	if p.Trees < long {
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		pause(ctx, 500*time.Millisecond)
		lead := leads[n%len(leads)]
		if slices.ContainsFunc(p.unhit(), func(point string) bool { return strings.Contains(point, lead.point) }) {
			lead.do(ctx, p, n)
		}
	}
}

// unhit are the points at which nobody has died yet.
func (p *play) unhit() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.points), func(point string) bool { return p.report.Kills[point] > 0 })
}

// hit reports whether somebody has died before a statement.
func (p *play) hit(statement string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report.Kills["statement "+statement] > 0
}

// retrySome has a run fail and be retried, in one of several ways: also where that is
// refused, since it was called by another, or has no body.
func (p *play) retrySome(ctx context.Context) {
	at := time.Now().Add(300 * time.Millisecond).UnixMilli()
	p.startExtra(ctx, "fault-early", int(at), fmt.Sprintf("[[%d,true],1]", at))
	pause(ctx, 250*time.Millisecond)
	which := []string{`task_name = 'fault-early'`, `task_name = 'fault-early'`, `task_name = 'fault-waits'`, `false`}[p.rand.IntN(4)]
	var run uuid.UUID
	if p.database.pool.QueryRow(ctx, `select id from public.task_runs where status = 'failed' and `+which+` order by created_at desc limit 1`).Scan(&run) != nil {
		run = uuid.New() // of nobody's body
		_, _ = p.database.pool.Exec(ctx, `insert into public.task_runs (id, task_name, input, status, ended_at) values ($1, 'fault-leaf', $2, 'failed', now())`,
			run, json.RawMessage("1"))
	}
	_ = p.ask(ctx, http.MethodPost, "/functions/v1/tasks/retry", map[string]any{"id": run, "withCurrentCode": p.rand.IntN(2) == 0}, "")
}
