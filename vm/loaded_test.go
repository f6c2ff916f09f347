package vm_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/amberhost/amber/vm"
)

// TestSameCodeUnderTwoNames: compiled code is kept with the name of its task: the
// stack traces of each say its own file, whichever came first, and when it runs again.
func TestSameCodeUnderTwoNames(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"first", "second", "first", "second"}, {"second", "first", "first", "second"}} {
		e := newEngine(t, nil)
		for _, code := range []string{
			`module.exports = () => new Error('where').stack`,
			`export default () => new Error('where').stack`,
		} {
			for i, name := range names {
				out, err := e.Start(t.Context(), vm.StartParams{Frame: frame, Name: name, Code: code})
				if err != nil {
					t.Fatal(err)
				}
				var stack string
				if err := json.Unmarshal(out.Result, &stack); err != nil || !strings.Contains(stack, name+".js:1:") || strings.Count(stack, ".js:") != strings.Count(stack, name+".js:") {
					t.Errorf("%s, number %d of %v: %q, %v %v", code, i+1, names, stack, out.Err, err)
				}
			}
		}
	}
}
