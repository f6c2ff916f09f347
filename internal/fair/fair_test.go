package fair_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fair"
)

func TestQueue(t *testing.T) {
	t.Parallel()
	a, b, c := uuid.New(), uuid.New(), uuid.New()
	var q fair.Queue[uuid.UUID, int]
	for n := range 5 {
		q.Push(a, n)
	}
	q.Push(b, 10)
	q.Push(b, 11)
	q.Push(c, 20)
	q.Remove(a, 2)
	q.Remove(c, 20)
	q.Remove(c, 21)
	var got []int
	for q.Len() > 0 {
		if q.First() == 11 {
			q.Push(c, 21)
		}
		got = append(got, q.Pop())
	}
	if want := []int{0, 10, 1, 11, 3, 21, 4}; !slices.Equal(got, want) {
		t.Errorf("they come as %v, want %v", got, want)
	}
}
