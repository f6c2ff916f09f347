package bench

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/amberhost/amber/service"
)

// prefix is what the names of all tasks begin with: by it they are told from what
// else is in a database, and removed.
const prefix = "amber-bench-"

const (
	taskTrivial = prefix + "trivial"
	taskCalls   = prefix + "calls"
	taskNests   = prefix + "nests"
	taskParks   = prefix + "parks"
)

// loop makes calls one after the other, so many or for so long.
const loop = `module.exports = async ({ times, ms }, { tools }) => {
	const begun = Date.now();
	let n = 0;
	while (times ? n < times : Date.now() - begun < ms) { await CALL; n++ }
	return n;
}`

// code is that of each task.
var code = map[string]string{
	taskTrivial: `module.exports = async () => 1`,
	taskCalls:   strings.Replace(loop, "CALL", "tools.amberBench.nothing()", 1),
	taskNests:   strings.Replace(loop, "CALL", "tools.tasks.execute('"+taskTrivial+"')", 1),
	taskParks:   `module.exports = async (input, { tools }) => tools.sleep(30 * 24 * 3600 * 1000)`,
}

// nothing is the service that does nothing, as tools.amberBench, for the tasks above alone.
type nothing struct{}

func (nothing) Call(_ context.Context, c service.Call, m service.Meta) (json.RawMessage, error) {
	if !strings.HasPrefix(m.Task, prefix) {
		return nil, service.Errorf(service.CodeUnknownService, "There is no tools.%s: it is for the tasks of amber bench.", c.Service)
	}
	return json.RawMessage("null"), nil
}
