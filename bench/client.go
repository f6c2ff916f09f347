package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/amberhost/amber/stack"
)

// run is what a host says of a run.
type run struct {
	ID        string          `json:"id"`        // when it is asked for
	TaskRunID string          `json:"taskRunId"` // when it is started
	Status    string          `json:"status"`
	Error     json.RawMessage `json:"error"`
}

func (r run) ended() bool {
	return r.Status == stack.StatusCompleted || r.Status == stack.StatusFailed || r.Status == stack.StatusCancelled
}

// client is for many requests at once, whose connections are kept.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}

// patience is how long one request waits for a run.
const patience = 60 * time.Second

// execute starts a task and, unless that is 0, waits so long for its end.
func (s *stage) execute(ctx context.Context, task string, input any, wait time.Duration) (r run, err error) {
	body, err := json.Marshal(map[string]any{"taskName": task, "input": input})
	if err != nil {
		return r, err
	}
	return s.ask(ctx, http.MethodPost, "/tasks/execute", body, wait)
}

// finish starts a task, and returns the run when it has completed.
func (s *stage) finish(ctx context.Context, task string, input any) (r run, err error) {
	started, err := s.execute(ctx, task, input, 0)
	for err == nil && !r.ended() {
		r, err = s.ask(ctx, http.MethodGet, "/tasks/status?id="+started.TaskRunID, nil, patience)
	}
	if err == nil && r.Status != stack.StatusCompleted {
		err = fmt.Errorf("a run of %s is %s: %s", task, r.Status, r.Error)
	}
	return r, err
}

func (s *stage) ask(ctx context.Context, method, path string, body []byte, wait time.Duration) (r run, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.host.info.FunctionsURL+path, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Apikey", s.config.Keys.SecretKey)
	if wait > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(int(wait.Seconds())))
	}
	resp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, err
	}
	if resp.StatusCode >= 300 {
		return r, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return r, nil
}
