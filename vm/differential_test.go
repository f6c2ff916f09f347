package vm_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

// keptSeeds are seeds whose programs once behaved differently. They mean the
// same programs only as long as the generator stands, so whatever one of them
// found has a test of its own too.
var keptSeeds = []uint64{}

// TestDifferential runs generated programs with none, half and all of their
// waits suspended, each resume in another VM, and expects the same from all:
// the result, and of each branch of the program its log, which holds its waits
// in order. The calls that a host sees are those waits. With all suspended, it
// makes no difference either whether replies come one by one or together, down
// to how branches interleave.
//
// AMBER_LONG=1 runs 1,000 seeds; -run TestDifferential/seed/7 one of them.
func TestDifferential(t *testing.T) {
	t.Parallel()
	seeds := slices.Clone(keptSeeds)
	last := uint64(50)
	switch {
	case os.Getenv("AMBER_LONG") != "":
		last = 1000
	case raceDetector:
		last = 3
	}
	for seed := uint64(1); seed <= last; seed++ {
		seeds = append(seeds, seed)
	}
	results := make(chan differential, len(seeds))
	t.Run("seed", func(t *testing.T) {
		for _, seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				results <- compare(t, seed)
			})
		}
	})
	close(results)
	if len(results) < len(seeds) || raceDetector { // -run picked some, some failed, or they are too few to tell
		return
	}
	used, all, half := map[int]bool{}, 0, 0
	for r := range results {
		for feature := range r.used {
			used[feature] = true
		}
		all += r.all
		half += r.half
	}
	if len(used) != len(features) || all < 20*len(seeds) || half < all*4/10 || half > all*6/10 {
		t.Errorf("%d of %d features, %d calls of %d programs, %d of them at 50%%: the generator is out of shape", len(used), len(features), all, len(seeds), half)
	}
	t.Logf("%d programs: %d calls with all waits suspended, %d with half of them", len(seeds), all, half)
}

// differential is what a seed's program was made of, and how many calls it made
// with all and with half of its waits suspended.
type differential struct {
	used      map[int]bool
	all, half int
}

func compare(t *testing.T, seed uint64) differential {
	program, used := generate(seed)
	none := observe(t, program, seed, 0, false)
	half := observe(t, program, seed, 50, false)
	all := observe(t, program, seed, 100, false)
	together := observe(t, program, seed, 100, true)
	for _, o := range []*observation{none, half, all, together} {
		if d := o.strange(); d != "" {
			t.Fatalf("seed %d, %s: %s\n%s", seed, o.mode, d, program)
		}
	}
	for _, o := range []*observation{half, all, together} {
		if d := firstDifference(none.byBranch(), o.byBranch()); d != "" {
			t.Fatalf("seed %d, %s and %s: %s\n%s", seed, none.mode, o.mode, d, program)
		}
	}
	if d := firstDifference(all.lines, together.lines); d != "" {
		t.Fatalf("seed %d, %s and %s: %s\n%s", seed, all.mode, together.mode, d, program)
	}
	return differential{used, len(all.calls), len(half.calls)}
}

// observation is what a program shows. calls are "branch k", as lines are of
// the log where a branch asks.
type observation struct {
	mode    string
	suspend uint32
	seed    uint32
	result  string
	lines   []string
	calls   []string
}

// observe runs a program to its end. Replies to the calls that are open come in
// an order that the seed decides, and calls made meanwhile come after them.
func observe(t *testing.T, program string, seed uint64, suspend uint32, together bool) *observation {
	o := &observation{mode: fmt.Sprintf("%d%% suspended", suspend), suspend: suspend, seed: uint32(seed)}
	if together {
		o.mode += ", replies together"
	}
	r := rand.New(rand.NewPCG(seed, uint64(suspend)))
	engines := []*vm.Engine{other, shared}
	calls := map[uint32]vm.Call{}
	out := startAs(t, shared, program, fmt.Sprintf(`{"seed":%d,"suspend":%d}`, seed, suspend))
	o.add(t, out, calls)
	for hop := 0; !out.Ended; {
		open := slices.Sorted(slices.Values(out.Open))
		r.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		var replies []vm.Reply
		for _, id := range open {
			replies = append(replies, answer(t, calls[id], o.seed))
		}
		batches := [][]vm.Reply{replies}
		if !together {
			batches = slices.Collect(slices.Chunk(replies, 1))
		}
		for _, batch := range batches {
			if out.Ended {
				break
			}
			snap, err := vm.DecodeSnapshot(stored(out.Snapshot)...)
			if err != nil {
				t.Fatal(err)
			}
			if out, err = engines[hop%2].Resume(t.Context(), frame, snap, batch); err != nil {
				t.Fatal(err)
			}
			hop++
			o.add(t, out, calls)
		}
	}
	o.result = string(out.Result)
	if out.Err != nil {
		o.result = fmt.Sprintf("error %+v", *out.Err)
	}
	return o
}

// add takes down what a slice showed.
func (o *observation) add(t *testing.T, out *vm.Outcome, calls map[uint32]vm.Call) {
	for _, c := range out.Calls {
		calls[c.ID] = c
		k, branch := argumentsOf(t, c)
		o.calls = append(o.calls, fmt.Sprintf("%s %d", branch, k))
	}
	for _, l := range out.Logs {
		o.lines = append(o.lines, l.Level+" "+l.Message)
	}
}

// strange says what is wrong with an observation by itself: a program fails, the
// host warns of something, or the calls are not what the log asks for.
func (o *observation) strange() string {
	if strings.HasPrefix(o.result, "error ") {
		return o.result
	}
	var asked []string
	for _, line := range o.lines {
		text, ok := strings.CutPrefix(line, "info main")
		if !ok {
			return "the host logs " + line
		}
		var branch string
		var k uint32
		if n, _ := fmt.Sscanf("main"+text, "%s asks %d", &branch, &k); n == 2 && mixed(k, o.seed+1)%100 < o.suspend {
			asked = append(asked, fmt.Sprintf("%s %d", branch, k))
		}
	}
	if d := firstDifference(sortByBranch(asked), sortByBranch(o.calls)); d != "" {
		return "asked and called: " + d
	}
	return ""
}

// byBranch is all that must not depend on the mode, in an order that does not either.
func (o *observation) byBranch() []string {
	return append(sortByBranch(o.lines), "result "+o.result)
}

// sortByBranch brings the lines of each branch together, in their order.
func sortByBranch(lines []string) []string {
	branch := func(line string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "info "), " ")
		return name
	}
	sorted := slices.Clone(lines)
	slices.SortStableFunc(sorted, func(a, b string) int { return strings.Compare(branch(a), branch(b)) })
	return sorted
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		at := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "(nothing more)"
		}
		if at(a) != at(b) {
			return fmt.Sprintf("line %d differs:\n\t%s\n\t%s", i, at(a), at(b))
		}
	}
	return ""
}

// answer is what frameOfPrograms promises for the same wait.
func answer(t *testing.T, c vm.Call, seed uint32) vm.Reply {
	k, _ := argumentsOf(t, c)
	n := mixed(k, seed) % 1000
	switch kind := c.Method(); kind {
	case "wait":
		return value(c.ID, fmt.Sprint(n))
	case "object":
		return value(c.ID, fmt.Sprintf(`{"n":%d,"list":[%d,%d],"text":"é%d"}`, n, n, k, n))
	case "risky":
		if n%3 == 0 {
			return failure(c.ID, service.Errorf("NO", "no %d", k))
		}
		return value(c.ID, fmt.Sprint(n))
	default:
		t.Fatalf("call of %s", kind)
		return vm.Reply{}
	}
}

func argumentsOf(t *testing.T, c vm.Call) (k uint32, branch string) {
	args := c.Args()
	if len(args) != 2 || json.Unmarshal(args[0], &k) != nil || json.Unmarshal(args[1], &branch) != nil {
		t.Fatalf("call %d: %s", c.ID, args)
	}
	return k, branch
}

// mixed is the function hash of frameOfPrograms.
func mixed(k, salt uint32) uint32 {
	return (((k + salt) * 0x9e3779b1) ^ k>>3) * 0x85ebca6b >> 8
}
