package vm

import (
	"encoding/json"

	"github.com/amberhost/amber/service"
	"github.com/google/uuid"
)

// StartParams are what a task body is started with.
type StartParams struct {
	Frame    uuid.UUID       // the stack_run of this body: bound into its snapshots
	Name     string          // task name; stack traces call the file Name + ".js"
	Code     string          // the task's source
	Input    json.RawMessage // exact JSON text; nil means null
	TaskRun  string          // shown to the task as __currentTaskRunId
	StackRun string          // shown to the task as __currentStackRunId
	Sequence uint64          // that its snapshots count on from
	Group    uuid.UUID       // of slices that wait to begin, groups take turns
	Begins   func()          // called when its turn has come, if it is not nil; it may wait, and others with it
}

// Call is a call that a slice made. ID is unique within its frame and counts up from 1.
type Call struct {
	ID uint32
	service.Call
}

// Reply settles the call with that ID.
type Reply struct {
	ID uint32
	service.Reply
}
