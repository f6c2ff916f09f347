// Package trees makes random trees of tasks from a seed, has one task play
// them, and knows what playing one must give: it is what the fault harness runs
// and judges by.
//
//	tree := trees.Generate(seed, trees.Options{})
//	publish trees.TaskName with trees.Code; start it with tree.Input()
//	verdict := tree.Check(trees.Seen{Runs: …, Entries: …})
//
// A [Tree] is a specification: steps that call the ledger, call the task itself
// with a part of the tree (a child), sleep, set timers; several at once under
// Promise.all, allSettled, race and any; errors that are caught, or escape and
// are caught further up; calls that nobody awaits; and values from the ledger
// that are easily spelled wrong, handed down to children and back up; calls that are
// refused and tried again, with options, until they pass or are given up; calls and
// children that have only so much time; children that begin later, or fail and begin
// anew; and bodies that hang until they are interrupted, and tidy up then.
//
// The task logs a line for each await that it observes, named by a path which is
// unique in the tree, and for its result:
//
//	@0.2.1 = {"n":17,"path":"0.2.1","value":-0}
//	@0.3 ! BROKE: entry 18 of 0.3 fails on demand
//	@0 > 5120:8f14e45fceea167a
//
// What is long is shown as its length and a hash. [Tree.Check] plays the same
// specification in Go along these lines. Where a race leaves open which reply
// comes first, the lines say which did; all else is determined, and compared:
// each value to the byte, each line in its place, the number of each call, the
// results, the errors.
//
// A body that begins anew is played along the lines of one execution after another.
// When one is interrupted, because its run was cancelled or has had its time, is a
// matter of time too: from the first line that says so, each call that was open may
// have been rejected, and none that is made later. Only those may be interrupted of
// which [Seen] or the tree says that somebody may.
package trees
