package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp/totp"
)

// flow is the part of an Ory Kratos self-service flow that a client needs.
type flow struct {
	ID string `json:"id"`
	// Type is browser or api: Kratos refuses a browser's marks on an api flow.
	Type string `json:"type"`
	UI   struct {
		Action string `json:"action"`
		Nodes  []struct {
			Attributes struct {
				Name  string `json:"name"`
				ID    string `json:"id"`
				Value any    `json:"value"`
				Text  struct {
					Text string `json:"text"`
				} `json:"text"`
			} `json:"attributes"`
			Messages []flowMessage `json:"messages"`
		} `json:"nodes"`
		Messages []flowMessage `json:"messages"`
	} `json:"ui"`
}

type flowMessage struct {
	ID   int    `json:"id"`
	Text string `json:"text"`
	Type string `json:"type"`
}

func (f *flow) value(name string) string {
	for _, n := range f.UI.Nodes {
		if n.Attributes.Name == name {
			s, _ := n.Attributes.Value.(string)
			return s
		}
	}
	return ""
}

func (f *flow) text(id string) string {
	for _, n := range f.UI.Nodes {
		if n.Attributes.ID == id {
			return n.Attributes.Text.Text
		}
	}
	return ""
}

// complaint returns what the flow says is wrong, or "".
func (f *flow) complaint() string {
	all := f.UI.Messages
	for _, n := range f.UI.Nodes {
		all = append(all, n.Messages...)
	}
	for _, m := range all {
		if m.Type == "error" {
			return m.Text
		}
	}
	return ""
}

// exchange sends one step of a flow. It answers the status, the flow if there is
// one in the body, and the body's other members.
func (c *Client) exchange(ctx context.Context, method, address string, body any, browser bool) (int, *flow, map[string]json.RawMessage, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, nil, err
		}
		r = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(ctx, method, address, r)
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if browser {
		req.Header.Set("Origin", c.origin)
	}
	if c.token != "" {
		req.Header.Set("X-Session-Token", c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, nil, nil, err
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		p := &Problem{}
		_ = json.Unmarshal(b, p)
		p.Status = res.StatusCode
		return res.StatusCode, nil, nil, p
	}
	f := &flow{}
	rest := map[string]json.RawMessage{}
	_ = json.Unmarshal(b, f)
	_ = json.Unmarshal(b, &rest)
	return res.StatusCode, f, rest, nil
}

func (c *Client) startFlow(ctx context.Context, path string) (*flow, error) {
	status, f, rest, err := c.exchange(ctx, http.MethodGet, c.origin+"/.ory/self-service/"+path, nil, false)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK || f.UI.Action == "" {
		return nil, fmt.Errorf("starting %s: status %d %s", path, status, rest["error"])
	}
	return f, nil
}

func (c *Client) submit(ctx context.Context, f *flow, fields map[string]any) (map[string]json.RawMessage, error) {
	if t := f.value("csrf_token"); t != "" {
		fields["csrf_token"] = t
	}
	status, g, rest, err := c.exchange(ctx, http.MethodPost, f.UI.Action, fields, f.Type == "browser")
	if err != nil {
		return nil, err
	}
	if why := g.complaint(); why != "" {
		return nil, errors.New(why)
	}
	if status != http.StatusOK {
		return rest, fmt.Errorf("status %d %s", status, rest["error"])
	}
	return rest, nil
}

// Enrolment is what a person holds after onboarding.
type Enrolment struct {
	// Secret is the base32 TOTP secret (RFC 6238), as an authenticator keeps it.
	Secret string
}

// Onboard takes an invited person from the mailed code to a session with a second
// factor: it presents the code, sets the password and enrols TOTP. The client's
// cookies hold the session afterwards. flow is the id in the invitation's link.
func (c *Client) Onboard(ctx context.Context, flowID, code, password string) (Enrolment, error) {
	if err := c.PresentCode(ctx, flowID, code); err != nil {
		return Enrolment{}, fmt.Errorf("presenting the mailed code: %w", err)
	}
	if err := c.SetPassword(ctx, password); err != nil {
		return Enrolment{}, fmt.Errorf("setting the password: %w", err)
	}
	e, err := c.EnrolTOTP(ctx)
	if err != nil {
		return Enrolment{}, fmt.Errorf("enrolling the one-time password: %w", err)
	}
	return e, nil
}

// PresentCode exchanges the mailed code for a first session, without a second factor.
func (c *Client) PresentCode(ctx context.Context, flowID, code string) error {
	address := c.origin + "/.ory/self-service/recovery?flow=" + url.QueryEscape(flowID)
	fields := map[string]any{"method": "code", "code": code}
	if _, f, _, err := c.exchange(ctx, http.MethodGet, c.origin+"/.ory/self-service/recovery/flows?id="+url.QueryEscape(flowID), nil, false); err == nil && f != nil {
		if t := f.value("csrf_token"); t != "" {
			fields["csrf_token"] = t
		}
	}
	status, f, rest, err := c.exchange(ctx, http.MethodPost, address, fields, true)
	if err != nil {
		return err
	}
	if f != nil {
		if why := f.complaint(); why != "" {
			return errors.New(why)
		}
	}
	// A right code is answered by sending the browser on to the settings page.
	if status == http.StatusUnprocessableEntity && rest["redirect_browser_to"] != nil || status == http.StatusOK || status == http.StatusSeeOther {
		return nil
	}
	return fmt.Errorf("status %d %s", status, rest["error"])
}

// SetPassword sets the password in a settings flow.
func (c *Client) SetPassword(ctx context.Context, password string) error {
	f, err := c.startFlow(ctx, "settings/"+c.flowKind())
	if err != nil {
		return err
	}
	_, err = c.submit(ctx, f, map[string]any{"method": "password", "password": password})
	return err
}

// EnrolTOTP makes a TOTP secret and proves it with its first code, which raises
// the session to assurance level 2.
func (c *Client) EnrolTOTP(ctx context.Context) (Enrolment, error) {
	f, err := c.startFlow(ctx, "settings/"+c.flowKind())
	if err != nil {
		return Enrolment{}, err
	}
	secret := f.text("totp_secret_key")
	if secret == "" {
		return Enrolment{}, errors.New("no secret was offered: is one enrolled already?")
	}
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		return Enrolment{}, err
	}
	if _, err := c.submit(ctx, f, map[string]any{"method": "totp", "totp_code": code}); err != nil {
		return Enrolment{}, err
	}
	return Enrolment{Secret: secret}, nil
}

func (c *Client) flowKind() string {
	if c.token != "" {
		return "api"
	}
	return "browser"
}

// SignInPassword opens a session by password alone; the client sends its token from then on.
func (c *Client) SignInPassword(ctx context.Context, email, password string) error {
	c.token = ""
	f, err := c.startFlow(ctx, "login/api")
	if err != nil {
		return err
	}
	rest, err := c.submit(ctx, f, map[string]any{"method": "password", "identifier": email, "password": password})
	if err != nil {
		return err
	}
	if json.Unmarshal(rest["session_token"], &c.token) != nil || c.token == "" {
		return errors.New("no session token in the answer")
	}
	return nil
}

// SignInTOTP raises the session to assurance level 2 with a code of the moment.
func (c *Client) SignInTOTP(ctx context.Context, code string) error {
	f, err := c.startFlow(ctx, "login/api?aal=aal2")
	if err != nil {
		return err
	}
	rest, err := c.submit(ctx, f, map[string]any{"method": "totp", "totp_code": code})
	if err != nil {
		return err
	}
	if t := rest["session_token"]; t != nil {
		_ = json.Unmarshal(t, &c.token)
	}
	return nil
}

// SignIn is SignInPassword followed by SignInTOTP. A code counts once: when the
// one of this moment was used already, the next period's is tried, which servers
// accept within their tolerance (RFC 6238, 5.2).
func (c *Client) SignIn(ctx context.Context, email, password, secret string) error {
	if err := c.SignInPassword(ctx, email, password); err != nil {
		return fmt.Errorf("signing in by password: %w", err)
	}
	var err error
	for _, ahead := range []time.Duration{0, 30 * time.Second, -30 * time.Second} {
		var code string
		if code, err = totp.GenerateCode(secret, time.Now().Add(ahead)); err != nil {
			return err
		}
		if err = c.SignInTOTP(ctx, code); err == nil {
			return nil
		}
	}
	return fmt.Errorf("signing in by one-time password: %w", err)
}

// Token returns the session token, if the client signed in by one.
func (c *Client) Token() string { return c.token }
