package stack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/service"
)

// options are what a task may give to one call: tools.with({...}).x.y().
//
//	retries         how many more tries at most, 0 to 100
//	backoff         milliseconds before the first of them, or {first, factor, most}
//	timeout         milliseconds for all of it
//	idempotencyKey  what the service sees, behind the task's name, instead of amber's own key
//	delay           milliseconds before a task begins
//	scheduledFor    when a task begins, ISO 8601
//	priority        of a task, -1000 to 1000; higher ones first
type options struct {
	retries  *int
	backoff  backoff
	timeout  time.Duration // 0: any time
	key      string
	delay    time.Duration
	at       time.Time
	priority *int
}

// backoff is what a policy is changed by; what is 0 stays.
type backoff struct {
	first, most time.Duration
	factor      float64
}

const (
	maxRetries     = 100
	maxPriority    = 1000
	maxKey         = 200 // bytes of an idempotency key
	maxCallTimeout = maxSleep
)

// forTasks are the options that only tools.tasks.execute takes.
var forTasks = []string{"delay", "scheduledFor", "priority"}

// parseOptions reads what tools.with was given for a call of that service. Its
// error is the task's.
func parseOptions(raw json.RawMessage, of string) (o options, err error) {
	if len(raw) == 0 {
		return o, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return o, fmt.Errorf("expected an object of options, not %.40s", raw)
	}
	readers := map[string]func(json.RawMessage) error{
		"retries":        func(v json.RawMessage) (err error) { o.retries, err = readInt(v, 0, maxRetries); return err },
		"backoff":        func(v json.RawMessage) (err error) { o.backoff, err = readBackoff(v); return err },
		"timeout":        func(v json.RawMessage) (err error) { o.timeout, err = readMS(v, 1, maxCallTimeout); return err },
		"idempotencyKey": func(v json.RawMessage) (err error) { o.key, err = readKey(v); return err },
		"delay":          func(v json.RawMessage) (err error) { o.delay, err = readMS(v, 0, maxSleep); return err },
		"scheduledFor":   func(v json.RawMessage) (err error) { o.at, err = readTime(v); return err },
		"priority": func(v json.RawMessage) (err error) {
			o.priority, err = readInt(v, -maxPriority, maxPriority)
			return err
		},
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		read, known := readers[name]
		value := given[name]
		switch {
		case !known:
			return o, fmt.Errorf("there is no option %.40q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(readers)), ", "))
		case string(value) == "null": // undefined too
			continue
		case of != serviceTasks && slices.Contains(forTasks, name):
			return o, fmt.Errorf("%s is for tools.tasks.execute alone", name)
		case of == serviceTasks && name == "idempotencyKey":
			return o, fmt.Errorf("idempotencyKey is for services, not for tasks: a task that is called is called once")
		case (of == serviceSleep || of == serviceTimer) && name != "timeout":
			return o, fmt.Errorf("%s is not for timers", name)
		}
		if err := read(value); err != nil {
			return o, fmt.Errorf("%s %w", name, err)
		}
	}
	if o.delay > 0 && !o.at.IsZero() {
		return o, fmt.Errorf("delay and scheduledFor exclude each other")
	}
	return o, nil
}

// policy is how the call is tried again, which its service leaves at that unless told.
func (o options) policy(p service.Policy) service.Policy {
	if o.retries != nil {
		p.Retries = *o.retries
	}
	p.First, p.Most, p.Factor = cmp.Or(o.backoff.first, p.First), cmp.Or(o.backoff.most, p.Most), cmp.Or(o.backoff.factor, p.Factor)
	if o.backoff.first > p.Most {
		p.Most = o.backoff.first
	}
	return p
}

func number(v json.RawMessage) (float64, error) {
	var n float64
	if json.Unmarshal(v, &n) != nil || math.IsInf(n, 0) {
		return 0, fmt.Errorf("takes a number, not %.40s", v)
	}
	return n, nil
}

func readInt(v json.RawMessage, least, most int) (*int, error) {
	n, err := number(v)
	if err == nil && (n != math.Trunc(n) || n < float64(least) || n > float64(most)) {
		err = fmt.Errorf("takes a whole number from %d to %d, not %.40s", least, most, v)
	}
	i := int(n)
	return &i, err
}

// readMS reads milliseconds.
func readMS(v json.RawMessage, least float64, most time.Duration) (time.Duration, error) {
	n, err := number(v)
	if err != nil || n < least || n > float64(most/time.Millisecond) {
		err = fmt.Errorf("takes milliseconds from %v to %d, not %.40s", least, most/time.Millisecond, v)
	}
	return time.Duration(n * float64(time.Millisecond)), err
}

func readTime(v json.RawMessage) (time.Time, error) {
	var text string
	if json.Unmarshal(v, &text) == nil {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			if time.Until(at) > maxSleep {
				return at, fmt.Errorf("takes a time within ten years, not %.40s", v)
			}
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("takes a time such as \"2031-01-31T08:00:00Z\" (ISO 8601 with a zone), not %.40s", v)
}

func readKey(v json.RawMessage) (string, error) {
	var key string
	if json.Unmarshal(v, &key) != nil || key == "" || len(key) > maxKey || strings.ContainsRune(key, 0) {
		return "", fmt.Errorf("takes a text of 1 to %d bytes without NUL, not %.40s", maxKey, v)
	}
	return key, nil
}

func readBackoff(v json.RawMessage) (b backoff, err error) {
	if v[0] != '{' {
		b.first, err = readMS(v, 0, 24*time.Hour)
		return b, err
	}
	var parts struct {
		First, Factor, Most json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(v))
	d.DisallowUnknownFields()
	if d.Decode(&parts) != nil {
		return b, fmt.Errorf("takes milliseconds or {first, factor, most}, not %.80s", v)
	}
	for _, part := range []struct {
		value json.RawMessage
		to    *time.Duration
	}{{parts.First, &b.first}, {parts.Most, &b.most}} {
		if part.value == nil {
			continue
		}
		if *part.to, err = readMS(part.value, 0, 24*time.Hour); err != nil {
			return b, err
		}
	}
	if parts.Factor != nil {
		if b.factor, err = number(parts.Factor); err == nil && (b.factor < 1 || b.factor > 100) {
			err = fmt.Errorf("takes a factor from 1 to 100, not %.40s", parts.Factor)
		}
	}
	return b, err
}
