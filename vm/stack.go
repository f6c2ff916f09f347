package vm

// The guest's C stack grows down. Guards take the stack limit down along with frames
// of any size, those of functions of JavaScript: it says how far down they ever were.

// stackRedZone is kept free below the stack's floor for the few functions that open a
// small frame without a guard.
const stackRedZone = 16 << 10

// resetStack empties the stack. Its limit starts at the top.
func (s *sandbox) resetStack() {
	s.stackPointer.Set(uint64(s.image.StackHigh))
	s.stackLimit.Set(uint64(s.image.StackHigh))
	s.stackFloor.Set(uint64(s.image.StackLow + stackRedZone))
}

// stackGap is more than any frame of a fixed size takes.
const stackGap = 32 << 10

// clearStack zeroes what a slice left on its stack, which is dead but another
// task's: all down to the limit, and below it, where there are frames of fixed sizes
// alone, until stackGap was zero already. The rest was never written and is not
// touched: that would make every idle VM a megabyte larger.
func (s *sandbox) clearStack(memory []byte) {
	stack := memory[s.image.StackLow:s.image.StackHigh]
	limit := int(uint32(s.stackLimit.Get()) - s.image.StackLow)
	for end, clean := len(stack), 0; end > 0 && clean < stackGap; end -= pageSize {
		page := stack[end-pageSize : end]
		switch {
		case !isZero(page):
			clear(page)
			clean = 0
		case end <= limit:
			clean += pageSize
		}
	}
}
