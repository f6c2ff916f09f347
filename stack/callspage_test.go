package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// pageSample is a task of docs/calls.md and what the page says comes of it.
type pageSample struct {
	name, code string
	start      stack.StartParams
	cancel     bool     // when it waits
	logs       []string // "level message", of the run and those below it
	end        string   // result, fails or ends
	want       string   // of it; "…": whatever it is
}

var (
	samplePattern = regexp.MustCompile("(?ms)^```(js|javascript|ts)\n(.*?)^```$")
	sampleName    = regexp.MustCompile(`^// ([a-z-]+)\.js\n`)
	sampleSays    = regexp.MustCompile(`^// (start|cancel|log|result|fails|ends): (.+)$`)
)

// samplesOf reads the samples of a page. One that does not say how it ends, or says
// what is not understood, is an error.
func samplesOf(page string) (all []pageSample, err error) {
	for _, block := range samplePattern.FindAllStringSubmatch(page, -1) {
		s, err := parseSample(block[2])
		if err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, block[2])
		}
		all = append(all, s)
	}
	if n := strings.Count(page, "```") / 2; len(all) != n {
		return nil, fmt.Errorf("%d samples of %d blocks", len(all), n)
	}
	return all, nil
}

func parseSample(text string) (s pageSample, err error) {
	name := sampleName.FindStringSubmatch(text)
	if name == nil {
		return s, fmt.Errorf("no name")
	}
	s.name, s.code = name[1], text
	s.start.Task = s.name
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	last := len(lines)
	for last > 0 && strings.HasPrefix(lines[last-1], "//") {
		last--
	}
	for _, line := range lines[:last] {
		if sampleSays.MatchString(line) {
			return s, fmt.Errorf("%q is not among the last lines", line)
		}
	}
	for _, line := range lines[last:] {
		says := sampleSays.FindStringSubmatch(line)
		if says == nil {
			return s, fmt.Errorf("%q is not understood", line)
		}
		switch key, value := says[1], says[2]; key {
		case "start":
			err = s.readStart(value)
		case "cancel":
			if s.cancel = value == "when it waits"; !s.cancel {
				err = fmt.Errorf("cancel %q", value)
			}
		case "log":
			s.logs = append(s.logs, value)
		default:
			if s.end != "" {
				return s, fmt.Errorf("two ends")
			}
			s.end, s.want = key, value
		}
		if err != nil {
			return s, err
		}
	}
	if s.end == "" {
		return s, fmt.Errorf("no result, fails or ends")
	}
	return s, nil
}

// readStart reads what tasks/execute would get.
func (s *pageSample) readStart(text string) error {
	var body struct {
		Input   json.RawMessage
		Timeout float64 // milliseconds
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return err
	}
	s.start.Input, s.start.Timeout = body.Input, time.Duration(body.Timeout*float64(time.Millisecond))
	return nil
}

// TestSampleNeedsAnEnd: a sample that says nothing of what comes of it, or what
// nobody checks, is refused.
func TestSampleNeedsAnEnd(t *testing.T) {
	t.Parallel()
	block := func(lines string) string { return "text\n\n```js\n" + lines + "\n```\n" }
	if all, err := samplesOf(block("// a.js\ncode\n// log: info x\n// result: 1")); err != nil || len(all) != 1 || all[0].want != "1" || len(all[0].logs) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	for name, text := range map[string]string{
		"no end":             "// a.js\nmodule.exports = () => 1;",
		"an end within":      "// a.js\n// result: 1\nmodule.exports = () => 1;",
		"one not at the end": "// a.js\ncode\n// cancel: when it waits\n\n// ends: cancelled",
		"no name":            "module.exports = () => 1;\n// result: 1",
		"misspelt":           "// a.js\ncode\n// results: 1",
		"an empty one":       "// a.js\ncode\n// result:",
		"two ends":           "// a.js\ncode\n// result: 1\n// ends: cancelled",
		"an unknown start":   "// a.js\ncode\n// start: {\"delays\": 1}\n// result: 1",
		"another cancel":     "// a.js\ncode\n// cancel: at once\n// ends: cancelled",
	} {
		if _, err := samplesOf(block(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := samplesOf("```jsx\n// a.js\n// result: 1\n```\n"); err == nil {
		t.Error("a block in another language is taken for none")
	}
}

// TestCallsPage: what docs/calls.md says of its samples is what they do.
func TestCallsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/calls.md")
	if err != nil {
		t.Fatal(err)
	}
	samples, err := samplesOf(string(page))
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) < 15 {
		t.Fatalf("%d samples", len(samples))
	}
	tasks := map[string]string{}
	for _, s := range samples {
		if tasks[s.name] != "" {
			t.Fatalf("two samples are %s.js", s.name)
		}
		tasks[s.name] = s.code
	}
	d := newDB(t, tasks)
	p, _ := d.host(func(c *stack.Config) {
		c.Services["shop"] = &webShop{tries: map[string]int{}, paid: map[string]map[string]bool{}}
	})
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d.in(t).check(p, s)
		})
	}
}

// check runs a sample and compares what comes of it with what it says.
func (d *db) check(p *stack.Processor, s pageSample) {
	d.t.Helper()
	r, err := p.Start(d.t.Context(), s.start)
	if err != nil {
		d.t.Fatal(err)
	}
	if s.cancel {
		d.eventually("it waits for a timer", func() bool {
			return d.count(belowSQL+`select count(*) from stack_runs where parent_task_run_id in (select id from runs) and status = 'sleeping'`, r.ID) > 0 &&
				d.count(belowSQL+`select count(*) from stack_runs where parent_task_run_id in (select id from runs) and status in ('pending', 'processing')`, r.ID) == 0
		})
		if _, err := p.Cancel(d.t.Context(), r.ID); err != nil {
			d.t.Fatal(err)
		}
	}
	r = d.wait(p, r.ID)
	var failure service.Error
	_ = json.Unmarshal(r.Error, &failure)
	var got, want any = nil, s.want
	switch {
	case s.end == "ends":
		got = r.Status
	case s.end == "fails" && r.Status == stack.StatusFailed:
		got = failure.Name + ": " + failure.Message
	case s.end == "result" && r.Status == stack.StatusCompleted && s.want == "…":
		got = s.want
	case s.end == "result" && r.Status == stack.StatusCompleted:
		if err := json.Unmarshal([]byte(s.want), &want); err != nil {
			d.t.Fatalf("the result on the page is not JSON: %s: %v", s.want, err)
		}
		_ = json.Unmarshal(r.Result, &got)
	}
	if !reflect.DeepEqual(got, want) {
		d.t.Errorf("the run is %s: %s %s; the page says that it %s: %s", r.Status, r.Result, r.Error, s.end, s.want)
	}
	if got := d.lines(r.ID); !slices.EqualFunc(got, s.logs, like) {
		d.t.Errorf("it logs\n  %s\nand the page says\n  %s", strings.Join(got, "\n  "), strings.Join(s.logs, "\n  "))
	}
}

// belowSQL lists a run and those below it as runs.
const belowSQL = `with recursive runs as (
	select $1::uuid as id, 0 as depth union all select t.id, r.depth + 1 from task_runs t join runs r on t.parent_run_id = r.id) `

// like reports whether a line is what the page says, where "…" is any text.
func like(line, says string) bool {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(says), "…", ".*") + "$").MatchString(line)
}

// lines are what a run and those below it logged, without the stacks of errors: the
// innermost first, since they do not wait for each other.
func (d *db) lines(run uuid.UUID) (lines []string) {
	d.t.Helper()
	err := d.pool.QueryRow(d.t.Context(), belowSQL+`
		select array_agg(level || ' ' || split_part(message, E'\n', 1) order by r.depth desc, l.id) from amber.logs l join runs r on r.id = l.task_run_id`,
		run).Scan(&lines)
	if err != nil {
		d.t.Fatal(err)
	}
	return lines
}

// TestCallsPageTables: the options and the defaults that the page lists are those
// there are.
func TestCallsPageTables(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/calls.md")
	if err != nil {
		t.Fatal(err)
	}
	p := service.DefaultPolicy
	for _, row := range []string{
		fmt.Sprintf("| `retries` | %d |\n", p.Retries),
		fmt.Sprintf("| `backoff.first` | %d ms |\n", p.First.Milliseconds()),
		fmt.Sprintf("| `backoff.factor` | %v: ", p.Factor),
		fmt.Sprintf("| `backoff.most` | %v s |\n", p.Most.Seconds()),
	} {
		if !strings.Contains(string(page), row) {
			t.Errorf("the page lacks %q", row)
		}
	}
	_, named, ok := strings.Cut(string(page), "there are backoff") // which is what a sample does
	named, _, ok2 := strings.Cut("backoff"+named, ".")
	names := strings.Split(named, ", ")
	if !ok || !ok2 || len(names) < 5 {
		t.Fatalf("the page names the options %q", names)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "\n| `"+name+"` | ") {
			t.Errorf("the page does not explain %s", name)
		}
	}
}

// webShop is the service of the page's samples. It answers twice what it is asked
// under one key.
type webShop struct {
	mu    sync.Mutex
	tries map[string]int             // by method and key
	paid  map[string]map[string]bool // keys by order
}

func (s *webShop) Call(ctx context.Context, c service.Call, meta service.Meta) (json.RawMessage, error) {
	var in struct {
		Order, Card, SKU, Van, To string
		Cents                     int
	}
	if args := c.Args(); len(args) > 0 {
		if err := json.Unmarshal(args[0], &in); err != nil {
			return nil, err
		}
	}
	if c.Method() == "report" { // takes for ever
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := c.Method() + " " + meta.IdempotencyKey
	s.tries[key]++
	switch c.Method() {
	case "charge":
		switch {
		case in.Card == "stolen":
			return nil, &service.Error{Status: http.StatusPaymentRequired, Message: "The card was declined."}
		case s.tries[key] < 3:
			return nil, &service.Error{Status: http.StatusServiceUnavailable, Message: "The bank is busy."}
		}
		return json.Marshal(map[string]int{"paid": in.Cents, "tries": s.tries[key]})
	case "look":
		return json.Marshal(map[string]int{"tries": s.tries[key]})
	case "pay":
		if s.paid[in.Order] == nil {
			s.paid[in.Order] = map[string]bool{}
		}
		s.paid[in.Order][meta.IdempotencyKey] = true
		return json.Marshal(map[string]int{"paid": in.Cents})
	case "payments":
		return json.Marshal(len(s.paid[in.Order]))
	case "seal":
		s.tries["label "+in.Order]++
		return json.Marshal(map[string]bool{"broken": s.tries["label "+in.Order] == 1})
	case "book":
		return json.RawMessage(`{"van": "V-7"}`), nil
	case "release", "mail":
		return json.RawMessage(`null`), nil
	}
	return nil, service.Errorf(service.CodeUnknownMethod, "shop has no %s", c.Method())
}
