package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/amberhost/amber/internal/fault/trees"
)

// client gives up in time: hosts die in the middle of answers.
var client = &http.Client{Timeout: 20 * time.Second}

// ask asks some host. wait is for how many seconds it may wait for a run's end.
func (p *play) ask(ctx context.Context, method, path string, body any, wait string) error {
	header := http.Header{}
	if wait != "" {
		header.Set("Prefer", "wait="+wait)
	}
	_, err := p.send(ctx, method, path, body, header)
	return err
}

// send is ask with any headers. It returns the answer.
func (p *play) send(ctx context.Context, method, path string, body any, header http.Header) ([]byte, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	h := p.hosts[p.rand.IntN(len(p.hosts))]
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, content)
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.secrets.serviceKey)
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	p.count(p.report.Answers, fmt.Sprint(res.StatusCode))
	switch {
	case res.StatusCode < 300, res.StatusCode == http.StatusConflict:
		return answer, nil
	case (res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests) && res.Header.Get("Retry-After") == "":
		p.odd(fmt.Sprintf("%s %s: %d without Retry-After: %s", method, path, res.StatusCode, answer))
	case res.StatusCode == http.StatusInternalServerError && strings.Contains(string(answer), `"taskRunId"`): // how quickjs says that a run failed
		return answer, nil
	case res.StatusCode >= 500 && res.StatusCode != http.StatusServiceUnavailable:
		p.odd(fmt.Sprintf("%s %s: %d: %s", method, path, res.StatusCode, answer))
	}
	return nil, errors.New(res.Status)
}

// visit does now and then what leads hosts to points that no tree leads to.
func (p *play) visit(ctx context.Context) {
	wide := 0
	for n := 0; ctx.Err() == nil; n++ {
		pause(ctx, 300*time.Millisecond) // trees have most of the time
		switch {
		case n%60 == 10 && wide <= int(p.ended.Load())/200: // they are much work
			wide++
			p.startExtra(ctx, "fault-wide", 280, "280")
		case n%20 == 15:
			p.startExtra(ctx, "fault-again", n, "[[1,2,3],3]")
		case n%100 == 3 && (p.Trees < long || p.hit("forgetKeys") || n > 1000): // with ghosts there, no key is forgotten
			p.insertBroken(ctx)
		case n%20 == 4:
			p.startExtra(ctx, "fault-big", 20, "20")
		case n%20 == 6:
			p.startExtra(ctx, "fault-wait", n, fmt.Sprintf(`[%d,"answered"]`, n))
		case n%10 == 7:
			p.startExtra(ctx, "fault-race", n, fmt.Sprint(n))
		case n%4 == 1:
			p.insert(ctx, n)
		case n%20 == 2, n%20 == 10:
			at := time.Now().Add(time.Second).UnixMilli()
			p.startExtra(ctx, "fault-early", int(at), fmt.Sprintf("[[%d,true],1]", at))
		case n%20 == 0 && n > 0:
			p.startKeyed(ctx, n)
		case n%20 == 18:
			p.rerun(ctx)
		case n%10 == 9:
			_ = p.retryEarly(ctx)
		case n%20 == 16:
			p.cancelUnbegun(ctx)
		case n%20 == 3, n%20 == 11:
			p.cancelBelow(ctx)
		case n%20 == 12:
			p.reseal(ctx, n/20)
		case n%20 == 14:
			p.ageImages(ctx)
			p.ageRuns(ctx)
		case n%10 == 8:
			_ = p.answerWaiting(ctx)
		}
	}
}

// look does what clients do that look on.
func (p *play) look(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, 200*time.Millisecond)
		var run, call string
		err := p.database.pool.QueryRow(ctx, `
			select s.child_task_run_id::text, s.id::text from public.stack_runs s where s.child_task_run_id is not null
			order by s.created_at desc offset $1 limit 1`, p.rand.IntN(200)).Scan(&run, &call)
		if err != nil {
			continue
		}
		visits := []func() error{
			func() error { return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/status?id="+run, nil, "") },
			func() error { return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/status?id="+run, nil, "2") },
			func() error { return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/tree?id="+run, nil, "") },
			func() error { return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/logs?id="+run, nil, "") },
			func() error {
				return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/runs?limit=10&before="+run, nil, "")
			},
			func() error { return p.ask(ctx, http.MethodGet, "/functions/v1/tasks/list", nil, "") },
			func() error { return p.answerWaiting(ctx) },
			func() error { return p.retryEarly(ctx) },
			func() error {
				return p.ask(ctx, http.MethodPost, "/functions/v1/stack-processor", map[string]any{}, "")
			},
			func() error {
				return p.ask(ctx, http.MethodPost, "/functions/v1/stack-processor", map[string]any{"stackRunId": call}, "")
			},
			func() error { // as it is, or when it has ended
				return p.ask(ctx, http.MethodPost, "/functions/v1/quickjs/resume", map[string]any{"stackRunId": call}, "")
			},
			func() error {
				return p.ask(ctx, http.MethodPost, "/functions/v1/publish", map[string]any{"name": trees.TaskName, "code": trees.Code}, "")
			},
		}
		_ = visits[p.rand.IntN(len(visits))]() // what is odd is noted
	}
}
