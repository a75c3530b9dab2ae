package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWrongUseIsStatusTwo(t *testing.T) {
	for name, args := range map[string][]string{
		"no such command": {"demos"}, "no such part of a command": {"audit", "verily"}, "no such flag": {"demo", "--nope"},
		"an argument too many": {"demo", "now"}, "a flag of the wrong type": {"demo", "--timeout", "soon"},
		"a rotation of nobody": {"key", "rotate"}, "a rotation of two": {"key", "rotate", "a", "b"}, "the status of two": {"key", "status", "a", "b"},
	} {
		root := rootCmd()
		root.SetArgs(args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		require.Equal(t, 2, exitCode(root.Execute()), name)
	}
	for name, args := range map[string][]string{"help": {"--help"}, "nothing": {}, "a group": {"audit"}, "a command's help": {"demo", "--help"},
		"a part's help": {"key", "rotate", "--help"}} {
		root := rootCmd()
		root.SetArgs(args)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		require.Equal(t, 0, exitCode(root.Execute()), name)
	}
}
