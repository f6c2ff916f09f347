package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// output is a form of a command's answer: the flag -o.
type output string

const (
	outputText   output = "text"
	outputJSON   output = "json"
	outputEnv    output = "env"    // of status, for a shell
	outputPretty output = "pretty" // what the Supabase CLI calls text
)

// Set implements pflag.Value. Which forms a command has is known when it is: see checkOutput.
func (o *output) Set(text string) error { *o = output(text); return nil }
func (o *output) String() string        { return string(*o) }
func (o *output) Type() string          { return "text|json" } // in the help

func (p *program) addOutputFlag(root *cobra.Command) {
	flag := root.PersistentFlags().VarPF(&p.output, "output", "o", "how to answer; status has env, too")
	flag.DefValue = string(outputText)
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, o := range outputsOf(cmd) {
			names = append(names, string(o))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}) // fails for a flag that is not there
}

// outputs is the annotation of a command that has other forms than text and json.
const outputs = "outputs"

func outputsOf(cmd *cobra.Command) []output {
	if cmd.Annotations[outputs] == "" {
		return []output{outputText, outputJSON}
	}
	var list []output
	for _, name := range strings.Fields(cmd.Annotations[outputs]) {
		list = append(list, output(name))
	}
	return list
}

func (p *program) checkOutput(cmd *cobra.Command, _ []string) error {
	allowed := outputsOf(cmd)
	if !slices.Contains(allowed, p.output) {
		return usagef(cmd, "--output: %q is not a form that %s has: want %s", string(p.output), cmd.Name(), alternatives(allowed))
	}
	return nil
}

// alternatives is "a, b or c".
func alternatives(list []output) string {
	text := string(list[0])
	for i, o := range list[1:] {
		between := ", "
		if i == len(list)-2 {
			between = " or "
		}
		text += between + string(o)
	}
	return text
}

// wanted finds -o json in a command line that has not been parsed yet.
func wanted(args []string) output {
	for i, arg := range args {
		switch {
		case arg == "--":
			return outputText
		case arg == "-ojson" || arg == "-o=json" || arg == "--output=json",
			(arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == "json":
			return outputJSON
		}
	}
	return outputText
}

// print writes to stdout, and fails if that has no room left.
func (p *program) print(text string) error {
	if _, err := io.WriteString(p.stdout, text); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// printJSON writes value as one indented document; texts of JSON stay as they are.
func (p *program) printJSON(value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	return printJSON(p.stdout, text)
}

// printLine writes value as one line of JSON.
func (p *program) printLine(value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return p.print(b.String() + "\n")
}

// encode leaves < and & readable: nobody puts this into HTML.
func encode(value any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// printJSON indents a JSON text and leaves its numbers and strings as they are.
func printJSON(w io.Writer, text json.RawMessage) error {
	if len(text) == 0 {
		text = json.RawMessage("null")
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	b.WriteByte('\n')
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
