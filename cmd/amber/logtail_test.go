package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestLogTail: lines that are committed out of the order of their ids are all
// seen, and once.
func TestLogTail(t *testing.T) {
	t.Parallel()
	h, err := shared()
	must(t, err)
	db, err := pgx.Connect(t.Context(), "postgres://postgres:postgres@127.0.0.1:"+h.dbPort+"/postgres")
	must(t, err)
	defer db.Close(t.Context())
	c := newClient(h.url, "")
	run, err := c.execute(t.Context(), start{Task: "hello"})
	must(t, err)
	_, err = c.result(t.Context(), run, patience)
	must(t, err)

	// ids far above those of the other tests
	const base = 1 << 40
	write := func(ids ...int64) {
		t.Helper()
		for _, id := range ids {
			_, err := db.Exec(t.Context(), `insert into amber.logs (id, task_run_id, at, level, message)
				overriding system value values ($1, $2, now(), 'info', $3)`, base+id, run, fmt.Sprint(id))
			must(t, err)
		}
	}
	tail := newLogTail(c, run)
	next := func(want ...string) {
		t.Helper()
		lines, err := tail.next(t.Context())
		must(t, err)
		var got []string
		for _, l := range lines {
			got = append(got, l.Message)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	write(10, 11, 15)
	next("10", "11", "15")
	write(13, 16) // 13 was begun before 15, and committed after it
	next("13", "16")
	next()

	// What is long past is not asked for again.
	for i := range tail.marks {
		tail.marks[i].at = tail.marks[i].at.Add(-2 * settles)
	}
	write(14, 17)
	next("17")
	if len(tail.seen) != 1 || len(tail.marks) != 2 {
		t.Errorf("remembers %v and %v", tail.seen, tail.marks)
	}

	// More than a page.
	_, err = db.Exec(t.Context(), `insert into amber.logs (id, task_run_id, at, level, message)
		overriding system value select $1::bigint + n, $2, now(), 'info', n::text from generate_series(100, 12099) n`, int64(base), run)
	must(t, err)
	lines, err := tail.next(t.Context())
	must(t, err)
	if len(lines) != 12000 || lines[11999].Message != "12099" {
		t.Errorf("%d lines", len(lines))
	}
	next()
}
