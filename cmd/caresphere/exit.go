package main

import "errors"

// exitCode is the process's status for a command's error: 0 for none, what the
// error says of itself, else 1.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return 1
}
