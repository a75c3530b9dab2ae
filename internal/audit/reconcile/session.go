package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// session is what was seen of one backend's life.
type session struct {
	last       int64
	role       string
	statements int
	// super: it logged in as a superuser to this cell's database.
	super bool
	// open is set by the session's first line.
	open Unmatched
}

// sessions follows the numbers that the server gives to the lines of each session,
// and the sessions that say nothing.
type sessions struct {
	database string
	supers   map[string]bool
	// asked is the time from which on a finding counts.
	asked time.Time
	open  map[string]*session
	gap   func(time.Time, string)
	found func(Unmatched)
}

// take follows one line.
func (s *sessions) take(l *line) {
	if l.Session == "" || l.Number <= 0 {
		return
	}
	one := s.open[l.Session]
	if one == nil {
		one = &session{last: l.Number - 1}
		s.open[l.Session] = one
	}
	if l.Number != one.last+1 && !l.at.Before(s.asked) {
		s.gap(l.at, fmt.Sprintf("lines %d to %d of session %s (role %s, process %d) are missing from the record",
			one.last+1, l.Number-1, l.Session, l.User, l.PID))
	}
	one.last = l.Number
	switch {
	case strings.HasPrefix(l.Message, "connection authorized: "):
		one.role, one.super = l.User, s.supers[l.User] && l.Database == s.database
		one.open = Unmatched{At: l.at, Role: l.User, PID: l.PID, From: l.from(), Database: l.Database, Application: applicationOf(l)}
	case strings.HasPrefix(l.Message, "disconnection: "):
		if one.super && one.statements == 0 && !l.at.Before(s.asked) {
			u := one.open
			u.Why = "a superuser's session left no record of its statements"
			s.found(u)
		}
		delete(s.open, l.Session)
	default:
		if _, ok := statementOf(l.Message); ok {
			one.statements++
		}
	}
}

// applicationOf takes the application's name from the line that opens a session,
// which is written before the name is set.
func applicationOf(l *line) string {
	if l.Application != "" && l.Application != "[unknown]" {
		return l.Application
	}
	_, name, _ := strings.Cut(l.Message, "application_name=")
	name, _, _ = strings.Cut(name, " SSL ")
	return name
}
