// Package fair has a queue that is fair to groups: of those who wait, each group
// has its turn after the others had theirs, however many of it wait.
package fair

import (
	"slices"
)

// Queue is such a queue. The zero value is empty. It is not safe for concurrent use.
type Queue[G, T comparable] struct {
	waiting map[G][]T
	order   []G // of the groups of which some wait, the next one first
	n       int
}

// Len is how many wait.
func (q *Queue[G, T]) Len() int { return q.n }

// Push has v wait as the last of its group.
func (q *Queue[G, T]) Push(group G, v T) {
	if q.waiting == nil {
		q.waiting = map[G][]T{}
	}
	if len(q.waiting[group]) == 0 {
		q.order = append(q.order, group)
	}
	q.waiting[group] = append(q.waiting[group], v)
	q.n++
}

// First is who Pop would return. The queue must not be empty.
func (q *Queue[G, T]) First() T { return q.waiting[q.order[0]][0] }

// Pop removes the first of the group whose turn it is. The queue must not be empty.
func (q *Queue[G, T]) Pop() T {
	group := q.order[0]
	all := q.waiting[group]
	v := all[0]
	q.order = q.order[1:]
	q.n--
	if len(all) == 1 {
		delete(q.waiting, group)
	} else {
		q.waiting[group] = all[1:]
		q.order = append(q.order, group)
	}
	return v
}

// Remove removes v, if it waits in that group.
func (q *Queue[G, T]) Remove(group G, v T) {
	i := slices.Index(q.waiting[group], v)
	if i < 0 {
		return
	}
	q.n--
	if len(q.waiting[group]) > 1 {
		q.waiting[group] = slices.Concat(q.waiting[group][:i], q.waiting[group][i+1:])
		return
	}
	delete(q.waiting, group)
	i = slices.Index(q.order, group)
	q.order = slices.Delete(slices.Clone(q.order), i, i+1)
}
