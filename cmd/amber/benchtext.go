package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/amberhost/amber/bench"
)

// showBench answers with a result, in the form that was asked for.
func (p *program) showBench(r bench.Result) error {
	switch p.output {
	case outputJSON:
		return p.printJSON(r)
	case outputMarkdown:
		return p.print(benchMarkdown(r))
	}
	var b strings.Builder
	writeTable(&b, whereBenched(r))
	if err := p.print(b.String() + "\n"); err != nil {
		return err
	}
	t := table{head: []string{"FIGURE", "MEDIAN", "ROUNDS", "WHAT"}}
	for _, f := range r.Figures {
		t.add(words(f.Name), words(amount(f.Value, f.Unit)), words(spread(f)), words(f.What))
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	for _, note := range r.Notes {
		if err := p.print("\nnot measured: " + note + "\n"); err != nil {
			return err
		}
	}
	return nil
}

// whereBenched is the machine, the database, and how much was measured.
func whereBenched(r bench.Result) [][2]string {
	m := r.Machine
	cpu := m.CPU
	if cpu == "" {
		cpu = m.Platform
	}
	postgres := r.Postgres.Version
	if r.Postgres.Embedded {
		postgres += ", embedded"
	} else if r.Postgres.Pooler != "" {
		postgres += ", " + r.Postgres.Pooler
	}
	rounds := fmt.Sprintf("%d rounds", r.Plan.Rounds)
	if r.Plan.Rounds == 1 {
		rounds = "one round"
	}
	var settings []string
	for name, value := range r.Postgres.Settings {
		settings = append(settings, name+" "+value)
	}
	slices.Sort(settings)
	rows := [][2]string{
		{"machine", fmt.Sprintf("%s, %d CPUs, %d MiB", cpu, m.CPUs, m.MemoryMiB)},
		{"kernel", strings.TrimSpace(m.Kernel + " " + m.Platform)},
		{"load before", m.Load},
		{"Postgres", postgres},
		{"settings", strings.Join(settings, ", ")},
		{"amber", r.Amber + ", " + m.Go},
		{"measured", fmt.Sprintf("%s, %s of %v, %d at once", r.At.Format("2006-01-02 15:04 MST"), rounds, r.Plan.Round.Round(time.Millisecond), r.Plan.Clients)},
	}
	for i := range rows {
		rows[i][1] = printable(rows[i][1])
	}
	return rows
}

// spread is the least and the most of the rounds, if there are several.
func spread(f bench.Figure) string {
	if len(f.Rounds) < 2 {
		return "-"
	}
	return amount(slices.Min(f.Rounds), "") + " to " + amount(slices.Max(f.Rounds), "")
}

// amount is a number with three digits that count, and its unit.
func amount(v float64, unit string) string {
	digits := 0
	if v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	text := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	if unit != "" && unit != "/s" {
		text += " "
	}
	return text + unit
}

// benchMarkdown is a result as a page has it.
func benchMarkdown(r bench.Result) string {
	var b strings.Builder
	cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
	for _, row := range whereBenched(r) {
		fmt.Fprintf(&b, "- %s: %s\n", row[0], row[1])
	}
	b.WriteString("\n| figure | median | rounds | what |\n|---|---|---|---|\n")
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, amount(f.Value, f.Unit), spread(f), cell(f.What))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nNot measured: %s\n", note)
	}
	return b.String()
}

// compareBenches puts two saved results side by side.
func (p *program) compareBenches(cmd *cobra.Command, a, b string) error {
	var results [2]bench.Result
	for i, name := range []string{a, b} {
		text, err := os.ReadFile(name)
		if err != nil {
			return usagef(cmd, "--compare: %w", err)
		}
		if results[i], err = bench.ReadResult(text); err != nil {
			return usagef(cmd, "--compare: %s: %w", name, err)
		}
	}
	c := bench.Compare(results[0], results[1])
	switch p.output {
	case outputJSON:
		return p.printJSON(c)
	case outputMarkdown:
		return usagef(cmd, "--output: a comparison has no form markdown: want text or json")
	}
	t := table{head: []string{"FIGURE", headOf(a), headOf(b), "RATIO", "", "WHAT"}}
	for _, f := range c.Pairs {
		ratio := "-"
		if f.Ratio != 0 {
			ratio = strconv.FormatFloat(f.Ratio, 'f', 2, 64)
		}
		t.add(words(printable(f.Name)), words(amount(f.A, printable(f.Unit))), words(amount(f.B, printable(f.Unit))), words(ratio),
			words(f.Verdict), words(printable(f.What)))
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	var more strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&more, "differs: %s\n", printable(d))
	}
	for _, m := range c.Missing {
		fmt.Fprintf(&more, "missing: %s\n", printable(m))
	}
	if more.Len() == 0 {
		return nil
	}
	return p.print("\n" + more.String())
}

// headOf is a file's name as the head of a column.
func headOf(file string) string {
	return printable(strings.ToUpper(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))))
}
