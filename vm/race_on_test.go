//go:build race

package vm_test

// raceDetector: what compares memory byte by byte takes twenty times as long, and
// the process has shadow memory beside its own.
const raceDetector = true
