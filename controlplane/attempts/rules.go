package attempts

import "time"

// Rules are the limits of one realm. Those by address are wide, because a whole
// facility may sit behind one; those by account are narrow.
type Rules struct {
	SignInAccount, SignInIP         Rule
	SecondFactor                    Rule
	RecoveryEmail, RecoveryIP       Rule
	RecoveryFlow                    Rule
	VerificationEmail               Rule
	SignUpEmail, SignUpIP, FlowInit Rule
}

// DefaultRules returns the limits for a realm; ipFactor multiplies those by
// address, for installations where many people share one.
func DefaultRules(realm string, ipFactor int) Rules {
	if ipFactor < 1 {
		ipFactor = 1
	}
	r := func(name string, limit int, window time.Duration) Rule {
		return Rule{Bucket: realm + "." + name, Limit: limit, Window: window}
	}
	byAddress := func(name string, limit int, window time.Duration) Rule {
		rule := r(name, limit*ipFactor, window)
		rule.Network = true
		return rule
	}
	const quarter = 15 * time.Minute
	return Rules{
		SignInAccount:     r("sign_in.account", 10, quarter),
		SignInIP:          byAddress("sign_in.ip", 60, quarter),
		SecondFactor:      r("second_factor.identity", 10, quarter),
		RecoveryEmail:     r("recovery.email", 5, time.Hour),
		RecoveryIP:        byAddress("recovery.ip", 30, time.Hour),
		RecoveryFlow:      r("recovery.flow", 10, time.Hour),
		VerificationEmail: r("verification.email", 5, time.Hour),
		SignUpEmail:       r("sign_up.email", 5, time.Hour),
		SignUpIP:          byAddress("sign_up.ip", 20, time.Hour),
		FlowInit:          byAddress("flow.ip", 600, quarter),
	}
}
