package vm

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/amberhost/amber/service"
)

// importFailure is the engine's error where a module is not to be had, as the
// image has it, see patchTexts.
const importFailure = "import of '%s' is not supported"

// refusedImport returns the name that a task tried to import, if e says so.
func refusedImport(e *service.Error) (string, bool) {
	before, after, _ := strings.Cut(importFailure, "%s")
	rest, ok := strings.CutPrefix(e.Message, before)
	if !ok || e.Name != "ReferenceError" {
		return "", false
	}
	return strings.CutSuffix(rest, after)
}

// importError refuses the import of a module. at is where it stands, "x.js:3: ",
// or empty.
func importError(at, name string) *service.Error {
	return service.Errorf(service.CodeImportUnsupported, "%simport of %q: a task is one file: bundle what it needs into it "+
		"(esbuild --bundle --format=esm), or call other tasks with tools.tasks.execute", at, name)
}

// staticImport refuses the import of src that the engine calls name. The engine
// does not tell where it is, and has resolved the name: it leaves out a leading
// "./". An import that the pattern misses is refused without a line.
func staticImport(src source, name string) *service.Error {
	statement := regexp.MustCompile(`(?m)(?:^|;)\s*((?:import|(?:import|export)\b[^;'"]*\bfrom)\s*['"]((?:\.{1,2}/)*` + regexp.QuoteMeta(name) + `)['"])`)
	m := statement.FindStringSubmatchIndex(src.code)
	if m == nil {
		return importError(src.file+": ", name)
	}
	line := 1 + strings.Count(src.code[:m[2]], "\n")
	return importError(fmt.Sprintf("%s:%d: ", src.file, line), src.code[m[4]:m[5]])
}
