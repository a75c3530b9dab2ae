package web

import "github.com/caresphere/caresphere/controlplane/session"

// ProgressStep is one step of the onboarding, as pages show it.
type ProgressStep struct {
	Label string
	// State is done, current or todo.
	State string
}

var journey = []struct {
	label string
	steps []session.Step
}{
	{"E-mail", []session.Step{session.VerifyEmail}},
	{"Password", []session.Step{session.SetPassword}},
	{"Authenticator", []session.Step{session.EnrollTOTP}},
	{"Agreement", []session.Step{session.SignBAA, session.AwaitCountersignature}},
	{"Set-up", []session.Step{session.Provisioning}},
	{"Ready", []session.Step{session.Ready}},
}

// Steps returns the onboarding with everything before next done. For people who
// do not own their organization, and for operators, only the first three exist.
func Steps(next session.Step, owner bool) []ProgressStep {
	list := journey
	if !owner {
		list = journey[:3]
	}
	out := make([]ProgressStep, len(list))
	state := "done"
	for i, j := range list {
		out[i] = ProgressStep{Label: j.label, State: state}
		for _, s := range j.steps {
			if s == next {
				out[i].State, state = "current", "todo"
				if next == session.Ready {
					out[i].State = "done"
				}
			}
		}
	}
	return out
}
