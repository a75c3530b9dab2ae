// Package proc starts the servers of a local stack and ends them again. It owns
// their lives: each child is in a process group of its own (a Ctrl-C in the
// terminal reaches only the parent, which then stops things in order), writes
// to a log file of its own, and dies with the parent whatever becomes of that.
// It knows nothing of what it starts, and never signals a process it did not start.
package proc
