package vm

// The guest's C stack grows down. Its guards take the stack limit down along with
// it, so that the limit says how far the stack was ever written.

// stackRedZone is kept free below the stack's floor, and may be written below its
// limit, for the few functions that open a small frame without a guard.
const stackRedZone = 16 << 10

// resetStack empties the stack. Its limit starts at the top.
func (s *sandbox) resetStack() {
	s.stackPointer.Set(uint64(s.image.StackHigh))
	s.stackLimit.Set(uint64(s.image.StackHigh))
	s.stackFloor.Set(uint64(s.image.StackLow + stackRedZone))
}

// clearStack zeroes what a slice left on its stack, which is dead but another
// task's. What is below the limit and its red zone was never written, and is not
// touched: that would make every idle VM a megabyte larger.
func (s *sandbox) clearStack(memory []byte) {
	low := (uint32(s.stackLimit.Get()) - stackRedZone) &^ (pageSize - 1)
	stack := memory[low:s.image.StackHigh]
	for ; len(stack) > 0; stack = stack[pageSize:] {
		if page := stack[:pageSize]; !isZero(page) {
			clear(page)
		}
	}
}
