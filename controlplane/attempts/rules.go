package attempts

import "time"

// Rules are the limits of one realm. Those by address are wide, because a whole
// facility may sit behind one; those by account are narrow.
type Rules struct {
	SignInAccount, SignInIP         Rule
	SecondFactor                    Rule
	RecoveryEmail, RecoveryIP       Rule
	RecoveryFlow                    Rule
	VerificationIdentity            Rule
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
	const quarter = 15 * time.Minute
	return Rules{
		SignInAccount:        r("sign_in.account", 10, quarter),
		SignInIP:             r("sign_in.ip", 60*ipFactor, quarter),
		SecondFactor:         r("second_factor.identity", 10, quarter),
		RecoveryEmail:        r("recovery.email", 5, time.Hour),
		RecoveryIP:           r("recovery.ip", 30*ipFactor, time.Hour),
		RecoveryFlow:         r("recovery.flow", 10, time.Hour),
		VerificationIdentity: r("verification.identity", 10, time.Hour),
		SignUpEmail:          r("sign_up.email", 5, time.Hour),
		SignUpIP:             r("sign_up.ip", 20*ipFactor, time.Hour),
		FlowInit:             r("flow.ip", 600*ipFactor, quarter),
	}
}
