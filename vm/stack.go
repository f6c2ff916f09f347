package vm

// The guest's C stack grows down. Its limit follows it down in steps, so that it
// also says how far down the stack was ever written.

const (
	// stackStep is how far the limit is lowered at a time, in bytes.
	stackStep = 64 << 10
	// stackRedZone is kept free below the limit for the few functions that open a
	// small frame without a guard.
	stackRedZone = 16 << 10
)

// resetStack empties the stack and sets the limit to the first step.
func (s *sandbox) resetStack() {
	s.stackPointer.Set(uint64(s.image.StackHigh))
	s.stackLimit.Set(uint64(max(s.stackFloor(), int32(s.image.StackHigh)-stackStep)))
}

// stackFloor is below what no stack pointer goes.
func (s *sandbox) stackFloor() int32 { return int32(s.image.StackLow + stackRedZone) }

// lowerStackLimit is called by guest code that wants a stack pointer below the
// limit. A panic unwinds it.
func (s *sandbox) lowerStackLimit(wanted int32) {
	floor, limit := s.stackFloor(), int32(s.stackLimit.Get())
	if wanted < floor {
		panic(errStackOverflow)
	}
	for wanted < limit {
		limit = max(floor, limit-stackStep)
	}
	s.stackLimit.Set(uint64(limit))
}

// clearStack zeroes what a slice left on its stack, which is dead but another
// task's: from the lowest limit on, below which nothing was written but the red
// zone. A page that is zero is not touched: that would make an idle VM larger.
func (s *sandbox) clearStack(memory []byte) {
	stack := memory[uint32(s.stackLimit.Get())-stackRedZone : s.image.StackHigh]
	for ; len(stack) > 0; stack = stack[pageSize:] {
		if page := stack[:pageSize]; !isZero(page) {
			clear(page)
		}
	}
}
