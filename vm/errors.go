package vm

import (
	"errors"
	"fmt"
)

// ErrUnknownImage, ErrUnknownEngine and ErrBadSnapshot say why a Snapshot
// cannot be resumed here: its image is not to be found, it was made by an
// engine that this host does not have, or its bytes are damaged, forged, sealed
// with another key of that id, or another frame's.
var (
	ErrUnknownImage  = errors.New("vm: unknown image")
	ErrUnknownEngine = errors.New("vm: snapshot of another engine")
	ErrBadSnapshot   = errors.New("vm: bad snapshot")
)

// ErrCache says that Options.CacheDir is no place for compiled code.
var ErrCache = errors.New("vm: open compile cache")

func badSnapshot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadSnapshot, fmt.Sprintf(format, args...))
}
