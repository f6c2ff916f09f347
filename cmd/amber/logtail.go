package main

import (
	"context"
	"time"
)

// logTail reads what a run writes, each line once. Lines have ids, but two
// nested runs that commit at the same moment may do so in another order than
// that of their ids: so each look begins a while before what was seen last.
type logTail struct {
	client *client
	run    string
	seen   map[int64]bool // lines after settled
	marks  []mark         // oldest first
}

// mark is the highest id that had been seen at a time.
type mark struct {
	at time.Time
	id int64
}

const (
	// settles is how long after a line another one with a lower id may turn
	// up: much longer than a host's commit takes.
	settles = 5 * time.Second
	// fullPage is an answer that may have been cut: a host's limit is not below it.
	fullPage = 1000
)

func newLogTail(c *client, run string) *logTail {
	return &logTail{client: c, run: run, seen: make(map[int64]bool)}
}

// next returns the lines that it has not returned before.
func (t *logTail) next(ctx context.Context) ([]logLine, error) {
	now := time.Now()
	after := t.settled(now)
	var news []logLine
	for {
		page, err := t.client.logs(ctx, t.run, after)
		if err != nil {
			for _, l := range news { // to be returned another time
				delete(t.seen, l.ID)
			}
			return nil, err
		}
		for _, l := range page {
			if !t.seen[l.ID] {
				t.seen[l.ID] = true
				news = append(news, l)
			}
			after = max(after, l.ID)
		}
		if len(page) < fullPage {
			break
		}
	}
	if len(t.marks) == 0 || after > t.marks[len(t.marks)-1].id {
		t.marks = append(t.marks, mark{now, after})
	}
	return news, nil
}

// settled returns the id up to which nothing new is to be expected, and forgets
// the lines up to there.
func (t *logTail) settled(now time.Time) int64 {
	n := 0
	for n < len(t.marks) && now.Sub(t.marks[n].at) > settles {
		n++
	}
	if n == 0 {
		return 0
	}
	id := t.marks[n-1].id
	if t.marks = t.marks[n-1:]; n > 1 {
		for seen := range t.seen {
			if seen <= id {
				delete(t.seen, seen)
			}
		}
	}
	return id
}
