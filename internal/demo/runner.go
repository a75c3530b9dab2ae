// Package demo drives the main job of the product through its public interfaces
// against a running stack: two organizations from sign-up to PHI, the refusals on
// the way, and the proofs that hold without any of our servers.
//
// It trusts the local authority file and the operator's credentials of the stack,
// reads mail from the stack's outbox page, and never touches a database or a key.
package demo

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Step is one promise and whether it held.
type Step struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Ms is how long the step took, in milliseconds.
	Ms     int64  `json:"ms"`
	Detail string `json:"detail"`
}

// Report is what a run found.
type Report struct {
	OK    bool   `json:"ok"`
	Ms    int64  `json:"ms"`
	Steps []Step `json:"steps"`
}

// runner runs steps in order. After a step that was not as promised the others do
// not run: they would only repeat its failure.
type runner struct {
	out    io.Writer
	report Report
	failed bool
}

func (r *runner) step(ctx context.Context, name string, f func(context.Context) (string, error)) {
	if r.failed {
		return
	}
	begun := time.Now()
	detail, err := f(ctx)
	s := Step{Name: name, OK: err == nil, Ms: time.Since(begun).Milliseconds(), Detail: detail}
	mark := "ok  "
	if err != nil {
		s.Detail, r.failed, mark = err.Error(), true, "FAIL"
	}
	r.report.Steps = append(r.report.Steps, s)
	if r.out != nil {
		fmt.Fprintf(r.out, "%s %6d ms  %s: %s\n", mark, s.Ms, name, s.Detail)
	}
}

// until asks again until the condition holds or the deadline passes; the last
// reason is part of the error.
func until(ctx context.Context, limit, every time.Duration, f func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, why, err := f(ctx)
		if err == nil && ok {
			return nil
		}
		if err != nil {
			why = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s", limit, why)
		case <-tick.C:
		}
	}
}
