// Package identity speaks with one Ory Kratos instance: it asks who a session
// belongs to, renders self-service flows and manages identities.
//
// It owns the strict reading of a session (what counts as a second factor) and
// the translation of Kratos' answers into tenants.Error kinds. It trusts Kratos
// behind TLS and nothing that a client says about itself. It never lets a body
// from Kratos reach an error, a log line or a client, and it keeps no state:
// whoever wants a cache puts it in front.
//
// One Client serves one realm; customers and operators have a Kratos each.
package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	ory "github.com/ory/client-go"

	"github.com/caresphere/caresphere/tenants"
)

// DefaultTimeout bounds each call when Config leaves Timeout at zero.
const DefaultTimeout = 5 * time.Second

// Config says where a realm's Kratos is.
type Config struct {
	// PublicURL and AdminURL are base addresses without a trailing slash. AdminURL
	// may be empty for a process that only asks who somebody is.
	PublicURL string
	AdminURL  string
	// TLS is the client configuration; it holds the CA that signed Kratos' certificate.
	TLS *tls.Config
	// Timeout bounds one call.
	Timeout time.Duration
}

// Client is a connection to one realm's Kratos. It is safe for concurrent use.
type Client struct {
	public  *ory.APIClient
	admin   *ory.APIClient
	http    *http.Client
	health  string
	timeout time.Duration

	// Of the last time that a refusal had Kratos asked for its health.
	mu      sync.Mutex
	asked   time.Time
	healthy error
}

// Open checks the addresses and returns a Client. It does not connect: use Health.
func Open(cfg Config) (*Client, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	hc := &http.Client{
		Timeout: cfg.Timeout + time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     cfg.TLS.Clone(),
			MaxIdleConnsPerHost: 32,
			MaxConnsPerHost:     128,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		// A redirect is an answer to a browser, never a place for us to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	public, err := apiClient(cfg.PublicURL, hc)
	if err != nil {
		return nil, fmt.Errorf("public address of Kratos: %w", err)
	}
	c := &Client{public: public, http: hc, health: cfg.PublicURL + "/health/ready", timeout: cfg.Timeout}
	if cfg.AdminURL != "" {
		if c.admin, err = apiClient(cfg.AdminURL, hc); err != nil {
			return nil, fmt.Errorf("admin address of Kratos: %w", err)
		}
	}
	return c, nil
}

func apiClient(base string, hc *http.Client) (*ory.APIClient, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an https address", base)
	}
	conf := ory.NewConfiguration()
	conf.Servers = ory.ServerConfigurations{{URL: base}}
	conf.HTTPClient = hc
	conf.UserAgent = "caresphere"
	return ory.NewAPIClient(conf), nil
}

// Health tells whether Kratos and its database answer. The error is KindUnavailable.
func (c *Client) Health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.health, nil)
	if err != nil {
		return fmt.Errorf("asking Kratos for its health: %w", err)
	}
	resp, err := c.http.Do(req)
	closeBody(resp)
	if err != nil || resp.StatusCode != http.StatusOK {
		return translate("asking Kratos for its health", resp, err)
	}
	return nil
}

// meant tells whether a refusal of the moment given was meant. Kratos answers 401 for a
// session that it cannot look up, also while its database is away; then the error is
// KindUnavailable. Refusals at the same time share one question.
func (c *Client) meant(ctx context.Context, refused time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.After(refused) {
		c.asked = time.Now()
		c.healthy = c.Health(ctx)
		if ctx.Err() != nil {
			// Whoever asked gave up; that says nothing of Kratos to the others.
			c.asked = time.Time{}
		}
	}
	return c.healthy
}

// translate turns an outcome of the client library into a kind. Only the status
// is kept: bodies and the library's own texts may carry addresses and tokens.
func translate(doing string, resp *http.Response, err error) error {
	if resp == nil {
		return tenants.WrapError(tenants.KindUnavailable, "the identity service does not answer", fmt.Errorf("%s: %w", doing, bare(err)))
	}
	cause := fmt.Errorf("%s: status %d", doing, resp.StatusCode)
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return tenants.WrapError(tenants.KindUnauthenticated, "sign in first", cause)
	case resp.StatusCode == http.StatusForbidden:
		return tenants.WrapError(tenants.KindForbidden, "not allowed", cause)
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return tenants.WrapError(tenants.KindNotFound, "not found", cause)
	case resp.StatusCode == http.StatusConflict:
		return tenants.WrapError(tenants.KindConflict, "it exists already", cause)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500:
		return tenants.WrapError(tenants.KindUnavailable, "the identity service is not ready", cause)
	case resp.StatusCode >= 400:
		return tenants.WrapError(tenants.KindInvalid, "the identity service refused the request", cause)
	default:
		// The status was good and the body unreadable.
		return tenants.WrapError(tenants.KindUnavailable, "the identity service gave an unreadable answer", cause)
	}
}

// bare keeps what kind of network failure it was, without the URL that *url.Error prints.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

func (c *Client) needAdmin() error {
	if c.admin == nil {
		return tenants.NewError(tenants.KindInternal, "this process may not administer identities")
	}
	return nil
}
