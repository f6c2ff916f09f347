package stack_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// loadEnv makes TestHostsComeAndGo go on for so long: "10m".
const loadEnv = "AMBER_TEST_LOAD"

// loadTasks are in the shapes of the examples. Each writes to the ledger what it
// does, under a label of its own, and returns what it wrote.
var loadTasks = map[string]string{
	"leaf":  `module.exports = async ({ label }, { tools }) => [await tools.ledger.write(label)]`,
	"chain": `module.exports = async ({ label }, { tools }) => { const seen = []; for (let i = 0; i < 6; i++) seen.push(...await tools.tasks.execute('leaf', { label: label + i })); return seen }`,
	"fan":   `module.exports = async ({ label }, { tools }) => (await Promise.all([0, 1, 2, 3, 4, 5].map((i) => tools.tasks.execute(i % 2 ? 'leaf' : 'nap', { label: label + i })))).flat()`,
	"nap":   `module.exports = async ({ label }, { tools }) => { await tools.sleep(label.length * 7); return [await tools.ledger.write(label)] }`,
	"deep":  `module.exports = async ({ label }, { tools }) => [await tools.ledger.write(label), ...(label.length < 14 ? await tools.tasks.execute('deep', { label: label + 'd' }) : [])]`,
	"calls": `module.exports = async ({ label }, { tools }) => { const seen = [await tools.ledger.write(label + 'a')]; setTimeout(() => seen.push('timer'), 5); await tools.sleep(15);
		return [...seen, ...await Promise.all([tools.ledger.write(label + 'b'), tools.ledger.write(label + 'c')])] }`,
}

// ledger is a service with effects that can be counted.
type ledger struct{ pool *pgxpool.Pool }

func (l ledger) Call(ctx context.Context, c service.Call, m service.Meta) (json.RawMessage, error) {
	_, err := l.pool.Exec(ctx, `insert into ledger (label, key) values ($1::jsonb #>> '{}', $2)`, string(c.Args()[0]), m.IdempotencyKey)
	return c.Args()[0], err
}

// listens is what a worker prints when it can be told to leave.
const listens = "listens"

// playWorker is a host that works until it is told to leave.
func playWorker(ctx context.Context, c child) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	fmt.Println(listens)
	return c.processor(func(cfg *stack.Config) {
		cfg.Services["ledger"] = ledger{c.pool}
		cfg.Lease, cfg.Sweep = 2*time.Second, 100*time.Millisecond
	}).Run(ctx)
}

// fleet is hosts in processes of their own.
type fleet struct {
	d     *db
	hosts []worker
}

type worker struct {
	*exec.Cmd
	says io.Reader
}

func (f *fleet) add() {
	f.d.t.Helper()
	cmd := f.d.command("worker", "")
	cmd.Stderr = os.Stderr
	says, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.d.t.Fatal(err)
	}
	f.hosts = append(f.hosts, worker{cmd, says})
}

// remove ends the oldest host. One that is told to leave leaves without an error.
func (f *fleet) remove(how syscall.Signal) {
	f.d.t.Helper()
	cmd := f.hosts[0]
	f.hosts = f.hosts[1:]
	if line, err := bufio.NewReader(cmd.says).ReadString('\n'); line != listens+"\n" {
		f.d.t.Fatalf("a worker says %q: %v", line, err)
	}
	if err := cmd.Process.Signal(how); err != nil {
		f.d.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && how == syscall.SIGTERM {
		f.d.t.Errorf("a host that was told to leave: %v", err)
	}
}

// watcher is a client that follows runs: what it has seen of each.
type watcher struct {
	d    *db
	mu   sync.Mutex
	seen map[uuid.UUID]stack.Run
}

// rank orders statuses: none may follow one of a higher rank.
func rank(status string) int {
	switch status {
	case stack.StatusQueued:
		return 0
	case stack.StatusProcessing, stack.StatusSuspended:
		return 1
	}
	return 2
}

// look reads every run that has not ended, and returns how many have.
func (w *watcher) look() (ended int) {
	w.d.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, before := range w.seen {
		if before.Ended() {
			ended++
			continue
		}
		now, err := w.d.store.Run(context.Background(), id)
		if err != nil {
			w.d.t.Error(err)
			return ended
		}
		if rank(now.Status) < rank(before.Status) {
			w.d.t.Errorf("run %s was %s and is %s", id, before.Status, now.Status)
		}
		w.seen[id] = now
	}
	return ended
}

// TestHostsComeAndGo: hosts work on a stream of runs; one is killed, one is
// told to leave, others are added. No run is lost, none is doubled, and who
// watches them sees no status go back.
func TestHostsComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDB(t, loadTasks)
	d.exec(`create table ledger (label text, key text)`)
	f := &fleet{d: d}
	w := &watcher{d: d, seen: map[uuid.UUID]stack.Run{}}
	want := map[uuid.UUID][]string{}
	shapes := []string{"chain", "fan", "nap", "deep", "calls"}
	stream := func(n int) {
		for range n {
			label := fmt.Sprintf("r%05d-", len(want))
			shape := shapes[len(want)%len(shapes)]
			id := d.enqueue(shape, fmt.Sprintf(`{"label":%q}`, label))
			want[id] = labels(shape, label)
			w.mu.Lock()
			w.seen[id] = stack.Run{Status: stack.StatusQueued}
			w.mu.Unlock()
		}
	}
	reach := func(part float64) {
		d.eventually(fmt.Sprintf("%.0f %% of %d runs have ended", part*100, len(want)), func() bool { return float64(w.look()) >= part*float64(len(want)) })
	}
	for range 2 {
		f.add()
	}
	long, err := time.ParseDuration(cmp.Or(os.Getenv(loadEnv), "0"))
	if err != nil {
		t.Fatalf("%s: %v", loadEnv, err)
	}
	rounds := 0
	for begun := time.Now(); rounds == 0 || time.Since(begun) < long; rounds++ {
		stream(30)
		reach(0.3)
		f.add()
		f.remove(syscall.SIGKILL)
		stream(20)
		reach(0.6)
		f.add()
		f.remove(syscall.SIGTERM)
		reach(1)
	}
	for range 2 {
		f.remove(syscall.SIGTERM)
	}
	nested := 0
	for id, labels := range want {
		r, err := d.store.Run(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := json.Unmarshal(r.Result, &got); r.Status != stack.StatusCompleted || err != nil || !slices.Equal(got, labels) {
			t.Errorf("run %s of %s is %s: %s %s, want %q", id, r.TaskName, r.Status, r.Result, r.Error, labels)
		}
		if before := w.seen[id]; before.Status != r.Status || string(before.Result) != string(r.Result) || !before.EndedAt.Equal(*r.EndedAt) {
			t.Errorf("run %s had ended with %s at %v, and now with %s at %v", id, before.Result, before.EndedAt, r.Result, r.EndedAt)
		}
		switch r.TaskName {
		case "chain", "fan":
			nested += 6
		case "deep":
			nested += len(labels) - 1
		}
	}
	if n := d.count(`select count(*) from task_runs where status = 'completed'`); n != len(want)+nested || n != d.count(`select count(*) from task_runs`) {
		t.Errorf("%d runs have completed, want %d and their %d nested ones, each once", n, len(want), nested)
	}
	if n := d.count(`select count(*) from (select label from ledger group by label having count(distinct key) <> 1) doubled`); n != 0 {
		t.Errorf("%d effects happened under more than one key", n)
	}
	all := 0
	for _, labels := range want {
		all += len(slices.DeleteFunc(labels, func(l string) bool { return l == "timer" }))
	}
	if n := d.count(`select count(distinct key) from ledger`); n != all {
		t.Errorf("%d effects, want %d", n, all)
	}
	if n := d.count(`select count(*) from stack_runs where status <> 'completed'`); n != 0 {
		t.Errorf("%d rows have not completed\n%s", n, d.dump())
	}
	t.Logf("%d runs in %d rounds; %d effects were repeated under their keys", len(want), rounds, d.count(`select count(*) from ledger`)-all)
}

// labels are what a run of that shape writes, in the order in which it returns them.
func labels(shape, label string) (all []string) {
	switch shape {
	case "chain", "fan":
		for i := range 6 {
			all = append(all, fmt.Sprint(label, i))
		}
	case "deep":
		for ; len(label) < 14; label += "d" {
			all = append(all, label)
		}
		all = append(all, label)
	case "calls":
		return []string{label + "a", "timer", label + "b", label + "c"}
	default:
		all = append(all, label)
	}
	return all
}
