package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pause"
)

// session keeps a token alive: login by AppRole, renewal in the background, and
// a new login when the token is refused or at its maximum age.
type session struct {
	client       *api.Client // carries the token
	login        *api.Client // carries none
	roleIDFile   string
	secretIDFile string
	retry        failsafe.Executor[*api.Secret]

	mu      sync.Mutex // held through a login: one at a time
	token   string
	renewer context.CancelFunc
	ended   chan struct{}
	closed  bool
}

// overall bounds a call whose caller set no deadline.
const overall = 6 * time.Second

func newSession(client, login *api.Client, roleIDFile, secretIDFile string) *session {
	policy := retrypolicy.NewBuilder[*api.Secret]().
		HandleErrors(driver.ErrUnavailable).
		WithMaxAttempts(4).
		WithBackoff(50*time.Millisecond, 800*time.Millisecond).
		WithJitterFactor(0.5).
		ReturnLastFailure().
		Build()
	return &session{
		client: client, login: login, roleIDFile: roleIDFile, secretIDFile: secretIDFile,
		retry: failsafe.With(policy),
	}
}

type request func(context.Context, *api.Client) (*api.Secret, error)

// call sends the request, again after a pause while Vault is not available and
// the context allows. Every request that this package sends may be repeated.
func (s *session) call(ctx context.Context, send request) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, overall)
	defer cancel()
	secret, err := s.retry.WithContext(ctx).Get(func() (*api.Secret, error) { return s.once(ctx, send) })
	if err != nil && ctx.Err() != nil && !errors.Is(err, driver.ErrUnavailable) {
		return nil, fmt.Errorf("vault: %w: %w", driver.ErrUnavailable, ctx.Err())
	}
	return secret, err
}

// once sends the request one time; a refused token is replaced and the request
// sent once more.
func (s *session) once(ctx context.Context, send request) (*api.Secret, error) {
	token, err := s.current(ctx, "")
	if err != nil {
		return nil, err
	}
	secret, err := s.send(ctx, send)
	if errors.Is(err, errToken) {
		if _, err := s.current(ctx, token); err != nil {
			return nil, err
		}
		secret, err = s.send(ctx, send)
	}
	return secret, err
}

func (s *session) send(ctx context.Context, send request) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secret, err := send(ctx, s.client)
	return secret, typed(err)
}

// current returns the token in use, after a login when there is none or when it
// is the refused one.
func (s *session) current(ctx context.Context, refused string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", fmt.Errorf("vault: closed: %w", driver.ErrUnavailable)
	}
	if s.token != "" && s.token != refused {
		return s.token, nil
	}
	roleID, err := os.ReadFile(s.roleIDFile)
	if err != nil {
		return "", fmt.Errorf("vault: role id: %w: %w", driver.ErrAuth, err)
	}
	secretID, err := os.ReadFile(s.secretIDFile)
	if err != nil {
		return "", fmt.Errorf("vault: secret id: %w: %w", driver.ErrAuth, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := s.login.Logical().WriteWithContext(ctx, "auth/approle/login", map[string]any{
		"role_id": strings.TrimSpace(string(roleID)), "secret_id": strings.TrimSpace(string(secretID)),
	})
	if err != nil {
		err = typed(err)
		if !errors.Is(err, driver.ErrUnavailable) {
			// Vault answers 400 to wrong credentials.
			return "", fmt.Errorf("vault: login: %w: %w", driver.ErrAuth, err)
		}
		return "", fmt.Errorf("vault: login: %w", err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return "", fmt.Errorf("vault: login gave no token: %w", driver.ErrAuth)
	}
	s.stopRenewal()
	s.token = answer.Auth.ClientToken
	s.client.SetToken(s.token)
	if answer.Auth.Renewable && answer.Auth.LeaseDuration > 0 {
		renewal, cancel := context.WithCancel(context.Background())
		s.renewer, s.ended = cancel, make(chan struct{})
		go s.renew(renewal, s.token, time.Duration(answer.Auth.LeaseDuration)*time.Second, s.ended)
	}
	return s.token, nil
}

// renew prolongs the token at half of its life until that no longer helps: the
// next call then finds it refused and logs in.
func (s *session) renew(ctx context.Context, token string, life time.Duration, ended chan struct{}) {
	defer close(ended)
	expires := time.Now().Add(life)
	for {
		if pause.For(ctx, max(time.Until(expires)/2, 50*time.Millisecond)) != nil {
			return
		}
		attempt, cancel := context.WithTimeout(ctx, callTimeout)
		answer, err := s.client.Logical().WriteWithContext(attempt, "auth/token/renew-self", map[string]any{})
		cancel()
		switch {
		case err == nil && answer != nil && answer.Auth != nil:
			expires = time.Now().Add(time.Duration(answer.Auth.LeaseDuration) * time.Second)
			if answer.Auth.LeaseDuration < 2 {
				return
			}
		case err != nil && errors.Is(typed(err), driver.ErrUnavailable) && time.Now().Before(expires):
			// Vault may be back before the token runs out.
		default:
			return
		}
	}
}

// stopRenewal ends the running renewal; s.mu is held.
func (s *session) stopRenewal() {
	if s.renewer != nil {
		s.renewer()
		<-s.ended
		s.renewer, s.ended = nil, nil
	}
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.stopRenewal()
	s.token = ""
	s.client.SetToken("")
	for _, c := range []*api.Client{s.client, s.login} {
		c.CloneConfig().HttpClient.CloseIdleConnections()
	}
}

func (v *Vault) write(ctx context.Context, path string, body map[string]any) (*api.Secret, error) {
	return v.session.call(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, path, body)
	})
}

// read returns nil when there is nothing at the path.
func (v *Vault) read(ctx context.Context, path string) (*api.Secret, error) {
	return v.session.call(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ReadWithContext(ctx, path)
	})
}

func (v *Vault) list(ctx context.Context, path string) ([]string, error) {
	s, err := v.session.call(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ListWithContext(ctx, path)
	})
	if err != nil || s == nil {
		return nil, err
	}
	var names []string
	keys, _ := s.Data["keys"].([]any)
	for _, k := range keys {
		if name, ok := k.(string); ok && driver.CheckKey(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func (v *Vault) delete(ctx context.Context, path string) error {
	_, err := v.session.call(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().DeleteWithContext(ctx, path)
	})
	return err
}
