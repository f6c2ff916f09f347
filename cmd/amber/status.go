package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/host"
)

func (p *program) statusCommand() *cobra.Command {
	var host target
	cmd := &cobra.Command{
		Use:   "status [RUN]",
		Short: "Show the host's URLs and keys, or one run",
		Long: `Without RUN: show whether a host answers, and the URLs and keys of the project here, under the
names that ` + "`supabase status`" + ` gives them: -o env for a shell, -o json for programs. Of a host that
is not where the settings here would have it (see ` + "`amber config`" + `) the URLs alone: its database and
keys are known where it was set up.

With RUN: show that run and the calls below it.

Exit status: 0 shown, and the host is ready, 1 it is not ready, or there is no such run, 2 wrong
usage, 3 no host (the values are shown nevertheless).`,
		Example: example(`
			amber status
			eval "$(amber status -o env)"
			amber status 0197a5c0-1d2e-7f34-8a5b-6c7d8e9f0a1b
			amber status RUN -o json | jq .run.result`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneRun(cmd, args)
		},
		Annotations: map[string]string{outputs: "text json env pretty"},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := host.client(cmd, p.getenv)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return p.status(cmd.Context(), client)
			}
			if p.output == outputEnv {
				return usagef(cmd, "--output: a run has no form env: want text or json")
			}
			return p.runStatus(cmd.Context(), client, args[0])
		},
		ValidArgsFunction: p.completeRuns(&host),
	}
	host.addTo(cmd)
	return cmd
}

// health is what a host says of itself.
type health struct {
	Answers bool            `json:"answers"`
	Ready   bool            `json:"ready"`
	Health  json.RawMessage `json:"health,omitempty"` // what /health says

	err error
}

// probe asks a host how it is.
func (c *client) probe(ctx context.Context) health {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, body, err := c.get(ctx, "/health")
	if err != nil {
		return health{err: err}
	}
	status, _, err := c.get(ctx, "/ready")
	if err != nil {
		return health{err: err}
	}
	h := health{Answers: true, Ready: status == http.StatusOK}
	if json.Valid(body) {
		h.Health = body
	}
	return h
}

// get fetches something beside the functions.
func (c *client) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, c.unreachable(err)
	}
	return resp.StatusCode, body, nil
}

// status shows the project and its host.
func (p *program) status(ctx context.Context, c *client) error {
	state := c.probe(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	values := projectOf(c, p.getenv)
	var err error
	switch p.output {
	case outputEnv:
		err = p.print(envText(values))
	case outputJSON:
		answer := map[string]any{"host": state}
		for _, v := range values {
			answer[v.name] = v.value
		}
		err = p.printJSON(answer)
	default:
		err = p.print(statusText(values, state, p.colours(p.stdout)))
	}
	switch {
	case err != nil:
		return err
	case !state.Answers:
		return state.err
	case !state.Ready:
		return fmt.Errorf("the host at %s is not ready: %s", c.base, cmp.Or(printable(string(state.Health)), "it does not say why"))
	}
	return nil
}

// namedValue is a line of amber status; name is the Supabase CLI's.
type namedValue struct{ name, label, value string }

// projectOf returns what clients of the host need: all of it where the settings
// here are that host's, of another host the URLs alone.
func projectOf(c *client, getenv func(string) string) []namedValue {
	values := urlsOf(c.base)
	config, err := localConfig(getenv)
	if err != nil || !c.settledBy(config) {
		return values
	}
	database := config.DatabaseURL
	if database == "" && config.Mode == host.Dev {
		database = fmt.Sprintf("postgresql://postgres:postgres@127.0.0.1:%d/postgres", config.DBPort)
	}
	for _, v := range []namedValue{
		{"DB_URL", "DB URL", database},
		{"PUBLISHABLE_KEY", "Publishable key", config.Keys.PublishableKey},
		{"SECRET_KEY", "Secret key", config.Keys.SecretKey},
		{"JWT_SECRET", "JWT secret", config.Keys.JWTSecret},
		{"ANON_KEY", "anon key", config.Keys.AnonKey},
		{"SERVICE_ROLE_KEY", "service_role key", config.Keys.ServiceRoleKey},
	} {
		if v.value != "" {
			values = append(values, v)
		}
	}
	return values
}

func urlsOf(base string) []namedValue {
	return []namedValue{
		{"API_URL", "API URL", base},
		{"FUNCTIONS_URL", "Functions URL", base + "/functions/v1"},
	}
}

// settledBy reports whether the configuration here is the host's: it is where
// that would have one serve.
func (c *client) settledBy(config host.Config) bool {
	base, err := url.Parse(c.base)
	return err == nil && (c.base == config.URL || c.local && base.Port() == strconv.Itoa(config.Port))
}

// envText is NAME="value" lines, as supabase status writes them; a value that
// a shell would take apart in there is written so that it does not.
func envText(values []namedValue) string {
	var b strings.Builder
	for _, v := range values {
		text := `"` + v.value + `"`
		if strings.ContainsAny(v.value, "\"\\$`!\n") {
			text = quoted(v.value)
		}
		b.WriteString(v.name + "=" + text + "\n")
	}
	return b.String()
}

func statusText(values []namedValue, state health, colour bool) string {
	var rows [][2]string
	for _, v := range values {
		rows = append(rows, [2]string{v.label, v.value})
	}
	var b strings.Builder
	writeTable(&b, rows)
	if len(values) == len(urlsOf("")) {
		b.WriteString("\nits database and keys are not known here: the settings here are another host's\n")
	}
	line := brush{left: wrapped, colour: colour}
	switch {
	case !state.Answers:
		line.add(red, "no host answers")
	case !state.Ready:
		line.add(yellow, "the host is not ready")
	default:
		line.add(green, "the host is ready")
	}
	return b.String() + "\n" + line.String() + "\n"
}

// runStatus shows one run.
func (p *program) runStatus(ctx context.Context, c *client, id string) error {
	if p.output == outputJSON {
		var raw json.RawMessage
		if err := c.do(ctx, http.MethodGet, "tasks/tree?id="+id, "", nil, &raw); err != nil {
			return hint(fmt.Errorf("status: %w", err))
		}
		return p.printJSON(raw)
	}
	s, err := c.tree(ctx, id)
	if err != nil {
		return hint(fmt.Errorf("status: %w", err))
	}
	return p.print(p.runText(s, time.Now()))
}

func (p *program) runText(s snapshot, now time.Time) string {
	const stamp = "2006-01-02 15:04:05.000"
	rows := [][2]string{{"run", s.Run.ID}, {"task", printable(s.Run.TaskName)}, {"status", printable(s.Run.Status)}}
	add := func(label, text string) {
		if text != "" {
			rows = append(rows, [2]string{label, text})
		}
	}
	add("created", s.Run.CreatedAt.Local().Format(stamp))
	if s.Run.EndedAt != nil {
		add("ended", s.Run.EndedAt.Local().Format(stamp))
	}
	if !phaseOf(s.Run.Status).over() {
		add("stuck", printable(s.Run.Stuck))
	}
	add("error", printable(reasonOf(s.Run.Error)))
	add("input", oneLine(s.Run.Input))
	add("result", oneLine(s.Run.Result))
	var b strings.Builder
	writeTable(&b, rows)
	page := paper{width: 100, height: tallest, colour: p.colours(p.stdout)}
	if t, ok := terminalOf(p.stdout, p.getenv); ok {
		if w, _, err := t.Size(); err == nil && w > 1 {
			page.width = w - 1
		}
	}
	fmt.Fprintf(&b, "\n%s\n", strings.Join(drawTree(callTree(s), now, page), "\n"))
	return b.String()
}

// glance is how much of a value is shown among other things.
const glance = 200

// oneLine is a JSON text on one line, or its beginning; "" for none.
func oneLine(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return ""
	}
	text := printable(b.String())
	if columns.StringWidth(text) > glance {
		return fit(text, glance) + " (all of it: -o json)"
	}
	return text
}
