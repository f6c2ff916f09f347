package vm

import (
	"encoding/json"
	"time"

	"github.com/amberhost/amber/service"
)

// Log is one line of console output.
type Log struct {
	At      time.Time
	Level   string // debug, info, warn, error
	Message string
}

// Outcome is how a slice ended. Exactly one of Ended and Snapshot tells: Ended
// with Err nil means the task returned Result; otherwise the task waits for at
// least one open call.
type Outcome struct {
	Ended     bool
	Result    json.RawMessage // exact JSON text of the return value; "null" for undefined
	Err       *service.Error
	Calls     []Call   // made in this slice, in order
	Cancelled []uint32 // calls that the task gave up in this slice (clearTimeout), some of Calls perhaps
	Open      []uint32 // calls without a reply after this slice, those of Calls included
	Snapshot  *Snapshot
	Logs      []Log
	CPU       time.Duration // what the slice computed, as fuel: see Limits
}
