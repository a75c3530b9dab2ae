// Package lint holds the rules of the code that a compiler does not: who may
// import whom, what a binary may link, how long a file may be.
//
// It owns the rules and reads only what `go list` says and the files' own text.
// Rules about single calls stand in .golangci.yml.
package lint
