// Package attempts counts tries at passwords, codes, recoveries and sign-ups, and
// makes each one-time code count once.
//
// It owns the tables attempt and totp_used. Subjects and codes are kept as HMACs
// under the control plane's secret: the tables name nobody. It counts before the
// thing that is tried, so that tries at the same moment cannot pass together, and
// it fails closed: when the database does not answer, nothing is tried.
package attempts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Rule is how many tries one subject has in a window of time.
type Rule struct {
	Bucket string
	Limit  int
	Window time.Duration
	// Network says that the subjects are clients' addresses: those of one IPv6 network
	// share the tries.
	Network bool
}

// timeout bounds one statement of this package.
const timeout = 3 * time.Second

// Counter counts tries. It is safe for concurrent use and across processes.
type Counter struct {
	q      *store.Queries
	secret []byte
	now    func() time.Time
}

// New returns a Counter. The secret has at least 32 random bytes and is the same
// in every control plane process.
func New(pool *pgxpool.Pool, secret []byte) (*Counter, error) {
	if len(secret) < 32 {
		return nil, fmt.Errorf("the secret has %d bytes and needs 32", len(secret))
	}
	return &Counter{q: store.New(pool), secret: secret, now: time.Now}, nil
}

// Take counts one try of the subject. The error is KindRateLimited, with the time
// to wait, once the window's tries are used up. The window slides: of the tries in the
// fixed window before this one, as many count as the sliding one still reaches back to.
// Otherwise whoever waits for a fixed window's end has twice the tries around it.
func (c *Counter) Take(ctx context.Context, r Rule, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	now := c.now().UTC()
	start := now.Truncate(r.Window)
	n, err := c.q.TakeAttempt(ctx, store.TakeAttemptParams{
		Bucket: r.Bucket, Subject: c.subject(r, subject), WindowStart: start, PreviousStart: start.Add(-r.Window),
	})
	if err != nil {
		return tenants.WrapError(tenants.KindUnavailable, "not available at the moment", fmt.Errorf("counting a try: %w", err))
	}
	wait := r.wait(now.Sub(start), int(n.Previous), int(n.Tries))
	if wait == 0 {
		return nil
	}
	e := tenants.NewError(tenants.KindRateLimited, "too many tries: wait before the next one")
	e.RetryAfter = max(time.Second, wait.Round(time.Second))
	return e
}

// wait is zero for a try that passes: the fixed window holds that many tries with it, so
// long after it began, and the one before held previous. Otherwise it is the time after
// which a next one would pass.
func (r Rule) wait(elapsed time.Duration, previous, tries int) time.Duration {
	limit, window := float64(r.Limit), float64(r.Window)
	// Refused tries are counted too; more than the limit did not pass in any window.
	before := min(float64(previous), limit)
	if before*(1-float64(elapsed)/window)+float64(tries) <= limit {
		return 0
	}
	if next := float64(tries + 1); next <= limit {
		return time.Duration(window*(1-(limit-next)/before)) - elapsed
	}
	return r.Window - elapsed + time.Duration(window/limit)
}

// Clear forgets the subject's tries after a success that proves who it is.
func (c *Counter) Clear(ctx context.Context, r Rule, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := c.q.ClearAttempts(ctx, store.ClearAttemptsParams{Bucket: r.Bucket, Subject: c.subject(r, subject)})
	if err != nil {
		return fmt.Errorf("clearing tries: %w", err)
	}
	return nil
}

// UseCode records that the identity presents this one-time code, and tells
// whether it is the first to (RFC 6238, 5.2). Of presentations at the same moment
// exactly one is first.
func (c *Counter) UseCode(ctx context.Context, identity tenants.ID, code string) (first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	n, err := c.q.TakeTOTP(ctx, store.TakeTOTPParams{IdentityID: identity, CodeHash: c.mac("code", identity.String(), code)})
	if err != nil {
		return false, tenants.WrapError(tenants.KindUnavailable, "not available at the moment", fmt.Errorf("recording a one-time code: %w", err))
	}
	return n == 1, nil
}

// Fingerprint returns a short keyed hash of a value, by which an audit entry can
// tell two unknown addresses apart without naming either.
func (c *Counter) Fingerprint(value string) string {
	return fmt.Sprintf("%x", c.mac("fingerprint", value)[:8])
}

// Purge removes what no rule looks at any more.
func (c *Counter) Purge(ctx context.Context) error {
	if err := c.q.PurgeAttempts(ctx, c.now().Add(-48*time.Hour)); err != nil {
		return fmt.Errorf("purging tries: %w", err)
	}
	if err := c.q.PurgeTOTP(ctx); err != nil {
		return fmt.Errorf("purging one-time codes: %w", err)
	}
	return nil
}

// subject hashes whom the rule counts tries of.
func (c *Counter) subject(r Rule, name string) []byte {
	if r.Network {
		name = network(name)
	}
	return c.mac("subject", r.Bucket, name)
}

// mac hashes the parts with their lengths, so that no two lists of parts meet.
func (c *Counter) mac(parts ...string) []byte {
	h := hmac.New(sha256.New, c.secret)
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
