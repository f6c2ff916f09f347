package functions_test

import "testing"

// TestPublishRetention: a task is published with how long its runs are kept, which
// stays what it was when the task is published without.
func TestPublishRetention(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, false)
	for _, step := range []struct {
		name, send, want string
		status           int
		answer           string
	}{
		{"new, without", "", "as hosts are told", 200, `{"name":"kept","change":"created"}`},
		{"a month", `,"retention":"720h"`, "720:00:00", 200, `{"name":"kept","change":"updated"}`},
		{"once more", `,"retention":"720h"`, "720:00:00", 200, `{"name":"kept","change":"unchanged"}`},
		{"without", `,"retention":null`, "720:00:00", 200, `{"name":"kept","change":"unchanged"}`},
		{"too short", `,"retention":"1s"`, "720:00:00", 400, `{"error":"retention: \"1s\": want at least 10m0s, so that clients can still read how their runs ended, or off to keep runs for ever","code":"INVALID_TASK"}`},
		{"no duration", `,"retention":"a month"`, "720:00:00", 400, `{"error":"retention: \"a month\" is not a time for which runs are kept: want something like 168h (7 days), or off to keep them for ever","code":"INVALID_TASK"}`},
		{"no text", `,"retention":720`, "720:00:00", 400, `{"error":"'retention' must be a string.","code":"INVALID_REQUEST"}`},
		{"for ever", `,"retention":"off"`, "00:00:00", 200, `{"name":"kept","change":"updated"}`},
	} {
		s.exchange(t, []row{{name: step.name, send: "POST /publish", header: asService, status: step.status, want: step.answer,
			body: `{"name":"kept","code":"module.exports = () => 1"` + step.send + `}`}})
		var is string
		if err := d.pool.QueryRow(t.Context(), `select coalesce(retention::text, 'as hosts are told') from task_functions where name = 'kept'`).Scan(&is); err != nil {
			t.Fatal(err)
		}
		if is != step.want {
			t.Errorf("%s: runs are kept for %s, want %s", step.name, is, step.want)
		}
	}
}
