package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/amberhost/amber/functions/publish"
)

// client speaks to a host's functions. It is safe for concurrent use.
type client struct {
	base  string // http://127.0.0.1:54321
	key   string
	local bool   // it is a host of this machine
	again string // flags that lead here again, for a command to paste; begins with a space unless ""
	http  *http.Client
}

func newClient(base, key string) *client {
	return &client{base: base, key: key, http: &http.Client{CheckRedirect: stayHere}}
}

// unreachableError says that no host answered, or that it went away amid the answer.
type unreachableError struct {
	base string
	err  error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no host answers at %s: %v", e.base, e.err)
}
func (e *unreachableError) Unwrap() error { return e.err }

// advice says what to do about it.
func (e *unreachableError) advice() string {
	if u, err := url.Parse(e.base); err == nil && !loopback(u.Hostname()) {
		return "Is --url right?"
	}
	return fmt.Sprintf("Start one with `%s dev`, or name another with --url.", invocation())
}

// apiError is a host's refusal.
type apiError struct {
	Status  int    `json:"-"`
	Message string `json:"error"`
	Code    string `json:"code"`
	Details string `json:"details"`
	File    string `json:"file"` // with Line and Column, of code that does not parse
	Line    int    `json:"line"`
	Column  int    `json:"column"`
}

func (e *apiError) Error() string {
	switch {
	case e.Message == "":
		return fmt.Sprintf("the host answered %d %s", e.Status, http.StatusText(e.Status))
	case e.Code == "":
		return fmt.Sprintf("%s (%d)", e.Message, e.Status)
	case e.Details != "":
		return fmt.Sprintf("%s (%d %s)\n%s", e.Message, e.Status, e.Code, e.Details)
	}
	return fmt.Sprintf("%s (%d %s)", e.Message, e.Status, e.Code)
}

// temporary reports whether err may be gone in a moment: no host, or one that
// is starting or stopping.
func temporary(err error) bool {
	var unreachable *unreachableError
	var api *apiError
	return errors.As(err, &unreachable) ||
		errors.As(err, &api) && api.Status >= http.StatusBadGateway && api.Status <= http.StatusGatewayTimeout
}

// start is what a run is started with.
type start struct {
	Task      string          `json:"taskName"`
	Input     json.RawMessage `json:"input,omitempty"` // sent as it is
	Delay     int64           `json:"delay,omitempty"` // milliseconds
	Scheduled string          `json:"scheduledFor,omitempty"`
	Priority  int             `json:"priority,omitempty"`
	Timeout   int64           `json:"timeout,omitempty"` // milliseconds

	key string // under which it is started; "" for none
}

// execute starts a task and returns the id of its run.
func (c *client) execute(ctx context.Context, s start) (string, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	headers := http.Header{}
	if s.key != "" {
		headers.Set("Idempotency-Key", `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s.key)+`"`)
	}
	return c.runID(ctx, "tasks/execute", headers, body.Bytes())
}

// runID makes a request that is answered with the id of a run.
func (c *client) runID(ctx context.Context, path string, headers http.Header, body []byte) (string, error) {
	var answer struct {
		TaskRunID string `json:"taskRunId"`
	}
	if err := c.send(ctx, http.MethodPost, path, headers, body, &answer); err != nil {
		return "", err
	}
	if answer.TaskRunID == "" {
		return "", fmt.Errorf("%s does not answer as amber does: no taskRunId", c.base)
	}
	return answer.TaskRunID, nil
}

// cancel asks a run to end and returns it as it is then, or after at most wait.
func (c *client) cancel(ctx context.Context, id string, wait time.Duration) (runRow, error) {
	var raw json.RawMessage
	err := c.do(ctx, http.MethodPost, "tasks/cancel", "wait="+strconv.Itoa(int(wait.Seconds())), fmt.Appendf(nil, `{"id":%q}`, id), &raw)
	if err != nil {
		return runRow{}, err
	}
	r := runRow{raw: raw}
	return r, json.Unmarshal(raw, &r)
}

// retry has a failed run go on.
func (c *client) retry(ctx context.Context, id string, currentCode bool) (string, error) {
	return c.runID(ctx, "tasks/retry", nil, fmt.Appendf(nil, `{"id":%q,"withCurrentCode":%v}`, id, currentCode))
}

// rerun starts a run with what another was started with.
func (c *client) rerun(ctx context.Context, id string) (string, error) {
	return c.runID(ctx, "tasks/rerun", nil, fmt.Appendf(nil, `{"id":%q}`, id))
}

// publish stores a task and returns what that changed: created, updated or unchanged.
func (c *client) publish(ctx context.Context, s publish.Source) (string, error) {
	fields := map[string]string{"name": s.Name, "code": s.Code, "description": s.Description}
	if s.Retention != "" { // hosts before retention know no such field
		fields["retention"] = s.Retention
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("encode task: %w", err)
	}
	var answer struct {
		Change string `json:"change"`
	}
	err = c.do(ctx, http.MethodPost, "publish", "", body, &answer)
	return answer.Change, err
}

// tree returns a run and all calls below it.
func (c *client) tree(ctx context.Context, id string) (snapshot, error) {
	var s snapshot
	err := c.do(ctx, http.MethodGet, "tasks/tree?id="+url.QueryEscape(id), "", nil, &s)
	return s, err
}

// row is tree without the calls.
func (c *client) row(ctx context.Context, id string) (snapshot, error) {
	run, err := c.run(ctx, id)
	return snapshot{Run: run}, err
}

// logs returns what a run and its nested runs have written so far, by id:
// those lines alone whose id is larger than after.
func (c *client) logs(ctx context.Context, id string, after int64) ([]logLine, error) {
	var answer struct {
		Logs []logLine `json:"logs"`
	}
	path := "tasks/logs?id=" + url.QueryEscape(id)
	if after > 0 {
		path += "&after=" + strconv.FormatInt(after, 10)
	}
	err := c.do(ctx, http.MethodGet, path, "", nil, &answer)
	return answer.Logs, err
}

// runFilter chooses among the runs.
type runFilter struct {
	task, status string // "" for any
	nested       bool   // those of other runs, too
	limit        int    // 0 for all
}

// pageSize is how many runs are asked for at once.
const pageSize = 500

// runs returns runs, newest first.
func (c *client) runs(ctx context.Context, f runFilter) ([]runRow, error) {
	var found []runRow
	for {
		want := pageSize
		if f.limit > 0 {
			want = min(want, f.limit-len(found))
		}
		page, err := c.runsPage(ctx, f, want, found)
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		if len(page) < want || len(found) == f.limit {
			return found, nil
		}
	}
}

// runsPage returns the next runs after those that were found.
func (c *client) runsPage(ctx context.Context, f runFilter, want int, found []runRow) ([]runRow, error) {
	query := url.Values{"limit": {strconv.Itoa(want)}}
	if f.task != "" {
		query.Set("task", f.task)
	}
	if f.status != "" {
		query.Set("status", f.status)
	}
	if !f.nested {
		query.Set("roots", "1")
	}
	if len(found) > 0 {
		query.Set("before", found[len(found)-1].ID)
	}
	var answer struct {
		Runs []json.RawMessage `json:"runs"`
	}
	if err := c.do(ctx, http.MethodGet, "tasks/runs?"+query.Encode(), "", nil, &answer); err != nil {
		return nil, err
	}
	page := make([]runRow, len(answer.Runs))
	for i, raw := range answer.Runs {
		if err := json.Unmarshal(raw, &page[i]); err != nil {
			return nil, fmt.Errorf("%s does not answer as amber does: %w", c.base, err)
		}
		page[i].raw = raw
	}
	return page, nil
}

// taskRow is a task that is published.
type taskRow struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (c *client) tasks(ctx context.Context) ([]taskRow, error) {
	var answer struct {
		Tasks []taskRow `json:"tasks"`
	}
	err := c.do(ctx, http.MethodGet, "tasks/list", "", nil, &answer)
	return answer.Tasks, err
}

// result returns how a run stands after at most wait, sooner when it ends.
func (c *client) result(ctx context.Context, id string, wait time.Duration) (outcome, error) {
	var o outcome
	prefer := "wait=" + strconv.Itoa(int(wait.Seconds()))
	err := c.do(ctx, http.MethodGet, "tasks/result?id="+url.QueryEscape(id), prefer, nil, &o)
	return o, err
}

// run returns the row of a run.
func (c *client) run(ctx context.Context, id string) (runRow, error) {
	var r runRow
	err := c.do(ctx, http.MethodGet, "tasks/status?id="+url.QueryEscape(id), "", nil, &r)
	return r, err
}

// watchAgain is a command for a shell that goes on watching a run.
func (c *client) watchAgain(id string) string {
	return invocation() + " run --follow " + id + c.again
}

func (c *client) do(ctx context.Context, method, path, prefer string, body []byte, answer any) error {
	headers := http.Header{}
	if prefer != "" {
		headers.Set("Prefer", prefer)
	}
	return c.send(ctx, method, path, headers, body, answer)
}

func (c *client) send(ctx context.Context, method, path string, headers http.Header, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/functions/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Apikey", c.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range headers {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.unreachable(err)
	}
	return c.decode(resp, text, answer)
}

func (c *client) decode(resp *http.Response, text []byte, answer any) error {
	if resp.StatusCode >= 400 {
		refusal := &apiError{Status: resp.StatusCode}
		if json.Unmarshal(text, refusal) != nil {
			refusal.Message = strings.TrimSpace(string(text[:min(len(text), 200)]))
		}
		return refusal
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s does not answer as amber does: %w", c.base, err)
	}
	return nil
}

// unreachable leaves out the request that url.Error repeats.
func (c *client) unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, context.Canceled) {
		return err // it is the caller who went away
	}
	return &unreachableError{base: c.base, err: err}
}

// stayHere follows no redirect: the key is for one host.
func stayHere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
