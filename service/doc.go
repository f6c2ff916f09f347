// Package service is the vocabulary of a task's calls: what a task asks for
// ([Call]), what it gets back ([Reply], [Error]) and what answers ([Service]).
//
// It imports nothing of amber, so that the sandbox that makes calls (vm), the
// durable stack that keeps them (stack) and the code that answers them
// (functions/...) agree on one wire form without knowing each other.
package service
