package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/amberhost/amber/service"
)

// Entry is one effect: one time that the ledger was asked for something.
type Entry struct {
	Number   int64     `json:"number"` // 1, 2, …: the order of effects
	At       time.Time `json:"at"`
	Key      string    `json:"key"` // idempotency key
	TaskRun  string    `json:"taskRun"`
	StackRun string    `json:"stackRun"`
	Task     string    `json:"task"`
	Method   string    `json:"method"` // [Once] or [Each]
	Ask      Ask       `json:"ask"`
	// Answer is the exact text that was given: the recorded one for a repeat of Once.
	Answer service.Reply `json:"answer"`
	First  int64         `json:"first"` // number of the first entry under Key that was not refused, Number itself if this is it or was
}

// Refused reports whether it was answered that it should be made again.
func (e Entry) Refused() bool { return e.Answer.Err != nil && e.Answer.Err.Status != 0 }

// Repeat reports whether its key had been answered.
func (e Entry) Repeat() bool { return e.First != e.Number }

// line writes e as one line of JSON that keeps the spelling of the answer.
func (e Entry) line() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return b.Bytes(), err
}

// Read reads the entries of a ledger's file. A last line that was cut off, by
// the end of the process that wrote it, is an error that names it.
func Read(file string) ([]Entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	return Decode(f)
}

// Decode reads entries as lines of JSON.
func Decode(r io.Reader) ([]Entry, error) {
	var entries []Entry
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return entries, nil
		}
		var e Entry
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil {
			return nil, fmt.Errorf("read ledger: line %d: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}
