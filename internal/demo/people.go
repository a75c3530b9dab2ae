package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/caresphere/caresphere/internal/client"
)

// Operator is how the stack's first operator signs in, as the local stack leaves it
// in its state directory.
type Operator struct {
	Email      string `json:"email"`
	Password   string `json:"password"`
	TOTPSecret string `json:"totp_secret"`
	Origin     string `json:"origin"`
}

// ReadOperator reads the operator's file.
func ReadOperator(path string) (Operator, error) {
	var o Operator
	b, err := os.ReadFile(path) // #nosec G304 -- the caller names the stack's own file
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return o, fmt.Errorf("reading %s: %w", path, err)
	}
	return o, nil
}

// person is somebody with an account: their client holds the session.
type person struct {
	*client.Client
	email, password, secret string
}

var (
	flowInMail = regexp.MustCompile(`[?&]flow=([0-9a-f-]{36})`)
	codeInMail = regexp.MustCompile(`(?m)^\s*([0-9]{6})\s*$|[Cc]ode[^0-9\n]*([0-9]{6})\b`)
)

// mailedCode waits for an invitation and returns its flow and code.
func mailedCode(ctx context.Context, c *client.Client, email string) (flow, code string, err error) {
	err = until(ctx, 15*time.Second, 100*time.Millisecond, func(ctx context.Context) (bool, string, error) {
		mails, err := c.Outbox(ctx, email)
		if err != nil {
			return false, "", err
		}
		for _, m := range mails {
			f, d := flowInMail.FindStringSubmatch(m.Body), codeInMail.FindStringSubmatch(m.Body)
			if f != nil && d != nil {
				flow, code = f[1], d[1]+d[2]
				return true, "", nil
			}
		}
		return false, fmt.Sprintf("%d mails, none with a link and a code", len(mails)), nil
	})
	return flow, code, err
}

// Join takes an invited person from the mail to a session with a second factor.
func Join(ctx context.Context, origin string, o client.Options, email string) (*client.Client, string, string, error) {
	c := client.New(origin, o)
	flow, code, err := mailedCode(ctx, c, email)
	if err != nil {
		return nil, "", "", fmt.Errorf("waiting for the invitation: %w", err)
	}
	password := secretWord()
	e, err := c.Onboard(ctx, flow, code, password)
	if err != nil {
		return nil, "", "", err
	}
	return c, password, e.Secret, nil
}

// secretWord returns a password of 128 random bits.
func secretWord() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return "Pw-" + hex.EncodeToString(b[:])
}

// refused returns nil if the error is a refusal with the status, and says otherwise
// what came instead.
func refused(err error, status int) error {
	if err == nil {
		return fmt.Errorf("was allowed; expected %d", status)
	}
	if got := client.StatusOf(err); got != status {
		return fmt.Errorf("expected %d, got: %w", status, err)
	}
	return nil
}

var errNothing = errors.New("empty answer")
