package ledger

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/amberhost/amber/service"
)

// Ledger records effects. [Open] makes one; it is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	out     io.WriteCloser // nil: memory only
	entries []Entry
	first   map[string]int // by key: index in entries of the first that was not refused
	tries   map[string]int // by key
	turns   map[string]int // by key: which it is of its path
	paths   map[string]int // by tree and path: keys
}

// Open returns a ledger that appends its entries to a file, as lines of JSON,
// and goes on with those that are there; "" keeps them in memory alone.
func Open(file string) (*Ledger, error) {
	l := &Ledger{first: map[string]int{}, tries: map[string]int{}, turns: map[string]int{}, paths: map[string]int{}}
	if file == "" {
		return l, nil
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	entries, err := Decode(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open ledger %s: %w", file, err)
	}
	for _, e := range entries {
		l.add(e)
	}
	l.out = f
	return l, nil
}

// Close closes the file. What is asked for afterwards is refused.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return nil
	}
	return l.out.Close()
}

// Entries returns the effects so far, in order.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Record makes the effect of a call: from now on it has happened, whether or
// not the answer in it reaches anybody. Errors are *service.Error if the call
// is malformed; nothing is recorded then.
func (l *Ledger) Record(call service.Call, meta service.Meta) (Entry, error) {
	ask, err := readAsk(call)
	if err != nil {
		return Entry{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(len(l.entries) + 1)
	e := Entry{Number: n, At: time.Now().UTC(), Key: meta.IdempotencyKey, TaskRun: meta.TaskRun, StackRun: meta.StackRun,
		Task: meta.Task, Method: call.Method(), Ask: ask, First: n}
	turn := l.turns[e.Key]
	if turn == 0 {
		turn = l.paths[e.place()] + 1
	}
	e.Answer = ask.answer(n, turn)
	if try := l.tries[e.Key]; try < ask.Flaky {
		e.Answer = ask.refusal(n, try)
	}
	if i, ok := l.first[e.Key]; ok && !e.Refused() {
		e.First = l.entries[i].Number
		if e.Method == Once {
			e.Answer = l.entries[i].Answer
		}
	}
	if l.out != nil {
		line, err := e.line()
		if err == nil {
			_, err = l.out.Write(line)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("write ledger: %w", err)
		}
	}
	l.add(e)
	return e, nil
}

func (l *Ledger) add(e Entry) {
	if l.tries[e.Key]++; l.turns[e.Key] == 0 {
		l.paths[e.place()]++
		l.turns[e.Key] = l.paths[e.place()]
	}
	if _, ok := l.first[e.Key]; !ok && !e.Refused() {
		l.first[e.Key] = len(l.entries)
	}
	l.entries = append(l.entries, e)
}

// place is what was asked for, whatever the key.
func (e Entry) place() string { return e.Ask.Tree + " " + e.Ask.Path }
