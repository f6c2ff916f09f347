package stack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/stack"
)

// plans are those by which the statements of one pool were really run, those of
// triggers and functions included: Postgres sends each as a notice.
type plans struct {
	mu  sync.Mutex
	all map[string]plan // by the name of the statement: the one that read the most pages
	err error
}

// plan is how one statement was run.
type plan struct {
	ms    float64
	pages int // found or read, of tables and indexes
	rows  int // that the scans looked at, whether or not they were wanted
	whole []string
	text  string
}

// node is what EXPLAIN says of one step.
type node struct {
	Type      string  `json:"Node Type"`
	Operation string  `json:"Operation"`
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	Rows      float64 `json:"Actual Rows"`
	Loops     float64 `json:"Actual Loops"`
	Filtered  float64 `json:"Rows Removed by Filter"`
	Joined    float64 `json:"Rows Removed by Join Filter"`
	Hit       int     `json:"Shared Hit Blocks"`
	Read      int     `json:"Shared Read Blocks"`
	Plans     []node  `json:"Plans"`
}

// explained is d with a store whose statements are explained.
func (d *db) explained() (*db, *plans) {
	d.t.Helper()
	p := &plans{all: map[string]plan{}}
	cfg, err := pgxpool.ParseConfig(d.dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	cfg.ConnConfig.OnNotice = p.notice
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.PgConn().Exec(ctx, `load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_level = notice;
			set auto_explain.log_format = json; set auto_explain.log_analyze = on; set auto_explain.log_timing = off;
			set auto_explain.log_buffers = on; set auto_explain.log_nested_statements = on`).ReadAll()
		return err
	}
	stack.PlanOnce(cfg)
	pool, err := pgxpool.NewWithConfig(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(pool.Close)
	e := *d
	e.store = stack.NewStore(pool, ring(d.t))
	return &e, p
}

var statementName = regexp.MustCompile(`(?s)^/\* (.*?) \*/`)

func (p *plans) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	var ms float64
	if _, err := fmt.Sscanf(n.Message, "duration: %f ms  plan:", &ms); err != nil {
		return // another notice
	}
	_, raw, _ := strings.Cut(n.Message, "plan:")
	var e struct {
		Query string `json:"Query Text"`
		Plan  node
	}
	err := json.Unmarshal([]byte(raw), &e)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = cmp.Or(p.err, err); err != nil {
		return
	}
	name := strings.Join(strings.Fields(e.Query), " ") // of a trigger or a function
	if m := statementName.FindStringSubmatch(e.Query); m != nil {
		name = m[1]
	}
	now := plan{ms: ms, pages: e.Plan.Hit + e.Plan.Read}
	now.add(e.Plan, 1)
	if before, ok := p.all[name]; !ok || before.pages < now.pages {
		now.whole = append(now.whole, before.whole...)
		p.all[name] = now
	} else if before.whole = append(before.whole, now.whole...); len(now.whole) > 0 {
		p.all[name] = before
	}
}

// hot are the tables that have a row per run or call.
var hot = []string{"task_runs", "stack_runs", "snapshots", "increments", "replies", "logs"}

func (p *plan) add(n node, depth int) {
	loops := max(n.Loops, 1)
	if strings.Contains(n.Type, "Scan") && n.Relation != "" {
		p.rows += int((n.Rows + n.Filtered) * loops)
	}
	p.rows += int(n.Joined * loops)
	if n.Type == "Seq Scan" && (n.Rows+n.Filtered)*loops > 1000 && slices.Contains(hot, n.Relation) {
		p.whole = append(p.whole, n.Relation)
	}
	p.text += fmt.Sprintf("%s%s %s %s: rows %g×%g, filtered %g, pages %d\n", strings.Repeat("  ", depth),
		cmp.Or(n.Operation, n.Type), n.Relation, n.Index, n.Rows, n.Loops, n.Filtered+n.Joined, n.Hit+n.Read)
	for _, c := range n.Plans {
		p.add(c, depth+1)
	}
}

// taken are the plans since the last call.
func (p *plans) taken() (map[string]plan, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = map[string]plan{}
	return all, p.err
}
