// Package client is the Go client of CareSphere's public interfaces: the control
// plane's API, a tenant's data plane, the operators' API and the self-service
// flows behind the same origin.
//
// It owns nothing and trusts nothing but the certificate authority it is given:
// it is what a customer could write. It never retries a request that changes
// something unless that carries an Idempotency-Key, and never prints a body.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"
)

// maxAnswer bounds what a JSON answer may weigh, in bytes.
const maxAnswer = 8 << 20

// Client speaks to one origin as one person. It keeps that person's cookies, or a
// session token. Safe for concurrent use once signed in.
type Client struct {
	origin string
	http   *http.Client
	token  string
}

// Options tune a Client. The zero value trusts the system's authorities.
type Options struct {
	// Roots are the authorities to trust instead of the system's.
	Roots *x509.CertPool
	// Token is a session token to send as a bearer, instead of cookies.
	Token string
	// Timeout bounds one exchange; 30 s if zero.
	Timeout time.Duration
}

// New returns a client of the origin, as "https://localhost:8443".
func New(origin string, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	jar, _ := cookiejar.New(nil) // fails only on options that are not given
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	t.Proxy = nil
	return &Client{
		origin: strings.TrimSuffix(origin, "/"),
		token:  o.Token,
		http: &http.Client{
			Transport: t, Jar: jar, Timeout: o.Timeout,
			// A redirect is an answer for the caller to look at.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Origin returns the origin that the client speaks to.
func (c *Client) Origin() string { return c.origin }

// Cookie returns the Cookie header that the client sends to the path: what a
// browser in its place would hold.
func (c *Client) Cookie(path string) string {
	req, err := http.NewRequest(http.MethodGet, c.origin+path, nil)
	if err != nil {
		return ""
	}
	for _, k := range c.http.Jar.Cookies(req.URL) {
		req.AddCookie(k)
	}
	return req.Header.Get("Cookie")
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Problem is an RFC 9457 answer.
type Problem struct {
	Type      string         `json:"type"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Detail    string         `json:"detail"`
	RequestID string         `json:"request_id"`
	Next      string         `json:"next"`
	Errors    []ProblemField `json:"errors"`
}

// ProblemField says what is wrong with one input.
type ProblemField struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Kind returns the last part of the problem's type, as "not_found".
func (p *Problem) Kind() string { return p.Type[strings.LastIndexByte(p.Type, '/')+1:] }

// Error says status, kind and the fields at fault.
func (p *Problem) Error() string {
	s := fmt.Sprintf("%d %s", p.Status, p.Kind())
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	for _, f := range p.Errors {
		s += fmt.Sprintf(" [%s: %s]", f.Field, f.Message)
	}
	return s
}

// StatusOf returns the HTTP status that the error stands for: 200 for nil, 0 for
// an error that is not a Problem.
func StatusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	var p *Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

// Request is one exchange, for what the typed methods do not cover.
type Request struct {
	Method, Path   string
	Body           any
	IdempotencyKey string
	Accept         string
}

// Do sends the request and decodes a JSON answer into out, if out is not nil. An
// answer of 400 and above is returned as *Problem.
func (c *Client) Do(ctx context.Context, r Request, out any) error {
	res, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s %s: %w", r.Method, r.Path, err)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("the answer of %s %s is not the JSON expected: %w", r.Method, r.Path, err)
	}
	return nil
}

// fetch is Do with the answer as a value.
func fetch[T any](ctx context.Context, c *Client, r Request) (T, error) {
	var out T
	err := c.Do(ctx, r, &out)
	return out, err
}

// Download sends the request and copies the answer to w as it comes. A truncated
// answer is an error.
func (c *Client) Download(ctx context.Context, path string, w io.Writer) error {
	res, err := c.send(ctx, Request{Method: http.MethodGet, Path: path, Accept: "*/*"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("downloading %s: %w", path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, r Request) (*http.Response, error) {
	var body io.Reader
	if r.Body != nil {
		b, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("encoding the body of %s %s: %w", r.Method, r.Path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.origin+r.Path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Accept == "" {
		r.Accept = "application/json"
	}
	req.Header.Set("Accept", r.Accept)
	req.Header.Set("User-Agent", "caresphere-client/1")
	if r.Method != http.MethodGet {
		// What a browser says of a request from our own pages: the cookie alone is not enough.
		req.Header.Set("Origin", c.origin)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 400 {
		defer res.Body.Close()
		return nil, problemFrom(res)
	}
	return res, nil
}

func problemFrom(res *http.Response) error {
	p := &Problem{}
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if json.Unmarshal(b, p) != nil || p.Status == 0 {
		p = &Problem{Type: "about:blank/http", Title: http.StatusText(res.StatusCode)}
	}
	p.Status = res.StatusCode
	return p
}
