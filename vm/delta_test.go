package vm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestDifferencesMissNothing: one bit anywhere is found, in pages of the image that
// hold something, in blank ones and beyond it; and where many words differ, those
// alone are found, in runs as long as can be.
func TestDifferencesMissNothing(t *testing.T) {
	t.Parallel()
	const pages = 6 // a full one, two of the stack, a blank one, a full one, and one beyond
	was := make([]byte, pages*pageSize)
	for _, page := range []int{0, 4} {
		for i := range pageSize {
			was[page*pageSize+i] = byte(rand.Uint32())
		}
	}
	image := newImage(nil, anchors{StackLow: pageSize, StackHigh: 3 * pageSize}, was[:5*pageSize])
	memory := slices.Clone(was)
	for at := range memory {
		memory[at] ^= 1 << (at % 8)
		want := []run{{uint32(at) &^ (wordSize - 1), 1}}
		if at/pageSize == 1 || at/pageSize == 2 {
			want = nil
		}
		if got := differences(nil, image, nil, memory); !slices.Equal(got, want) {
			t.Fatalf("byte %#x: %v, want %v", at, got, want)
		}
		memory[at] = was[at]
	}
	for range 200 {
		var want []run
		copy(memory, was)
		for word := 3 * pageSize / wordSize; word < len(memory)/wordSize; {
			n := 1 + rand.IntN(40)
			if n = min(n, pageSize/wordSize-word%(pageSize/wordSize)); rand.IntN(2) > 0 { // a run ends with its page
				want = append(want, run{uint32(word * wordSize), uint32(n)})
				for at := word * wordSize; at < (word+n)*wordSize; at += wordSize {
					memory[at+rand.IntN(wordSize)] ^= byte(1 + rand.IntN(255))
				}
				n++
			}
			word += n
		}
		if got := differences(nil, image, nil, memory); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}
