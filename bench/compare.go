package bench

import "fmt"

// Pair is a figure of two results.
type Pair struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Unit    string  `json:"unit"`
	A       float64 `json:"a"`
	B       float64 `json:"b"`
	Ratio   float64 `json:"ratio"`   // B / A; 0 where A is 0
	Verdict string  `json:"verdict"` // better or worse, or same: the rounds of both overlap
}

// Comparison is two results side by side.
type Comparison struct {
	Pairs       []Pair   `json:"figures"`
	Differences []string `json:"differences"` // of machine, Postgres or plan: what else the ratios may come from
	Missing     []string `json:"missing"`     // figures that one of the results lacks
}

// Compare puts b beside a.
func Compare(a, b Result) Comparison {
	c := Comparison{Pairs: []Pair{}, Differences: differences(a, b), Missing: []string{}}
	others := map[string]Figure{}
	for _, f := range b.Figures {
		others[f.Name] = f
	}
	for _, f := range a.Figures {
		other, ok := others[f.Name]
		if !ok || other.Unit != f.Unit {
			c.Missing = append(c.Missing, f.Name+": the second has none")
			continue
		}
		delete(others, f.Name)
		c.Pairs = append(c.Pairs, pair(f, other))
	}
	for _, f := range b.Figures {
		if _, left := others[f.Name]; left {
			c.Missing = append(c.Missing, f.Name+": the first has none")
		}
	}
	return c
}

func pair(a, b Figure) Pair {
	p := Pair{Name: a.Name, What: b.What, Unit: b.Unit, A: a.Value, B: b.Value, Verdict: "same"}
	if a.Value != 0 {
		p.Ratio = b.Value / a.Value
	}
	lowA, highA := a.spread()
	lowB, highB := b.spread()
	switch {
	case lowB > highA && a.Less, highB < lowA && !a.Less:
		p.Verdict = "worse"
	case lowB > highA || highB < lowA:
		p.Verdict = "better"
	}
	return p
}

// spread is between which values the rounds are; at least a twentieth around
// their median, since a figure of one round has none.
func (f Figure) spread() (low, high float64) {
	low, high = f.Value*0.95, f.Value*1.05
	for _, v := range f.Rounds {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

func differences(a, b Result) []string {
	list := []string{}
	differ := func(what string, a, b any) {
		if a, b := fmt.Sprint(a), fmt.Sprint(b); a != b {
			list = append(list, what+": "+a+" and "+b)
		}
	}
	differ("CPU", a.Machine.CPU, b.Machine.CPU)
	differ("CPUs", a.Machine.CPUs, b.Machine.CPUs)
	differ("memory in MiB", a.Machine.MemoryMiB, b.Machine.MemoryMiB)
	differ("kernel", a.Machine.Kernel, b.Machine.Kernel)
	differ("Go", a.Machine.Go, b.Machine.Go)
	differ("amber", a.Amber, b.Amber)
	differ("Postgres", a.Postgres.Version, b.Postgres.Version)
	differ("pooler", a.Postgres.Pooler, b.Postgres.Pooler)
	for _, name := range postgresSettings {
		differ(name, a.Postgres.Settings[name], b.Postgres.Settings[name])
	}
	differ("round", a.Plan.Round, b.Plan.Round)
	differ("rounds", a.Plan.Rounds, b.Plan.Rounds)
	differ("clients", a.Plan.Clients, b.Plan.Clients)
	differ("calls of the long task", a.Plan.Long, b.Plan.Long)
	differ("calls that are counted", a.Plan.Counted, b.Plan.Counted)
	differ("parked runs", a.Plan.Parked, b.Plan.Parked)
	differ("wakes", a.Plan.Wakes, b.Plan.Wakes)
	return list
}
