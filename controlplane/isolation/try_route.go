package isolation

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/tenants"
)

// routePatience is how long a route that was just opened or closed may take to
// reach every router and worker.
const routePatience = 8 * time.Second

// routes tries the public way in: the tenant's own short name and the others', with
// the platform's probe tokens, of which each is one tenant's.
func (p *Prover) routes(ctx context.Context, s *sheet, t subject, peers []subject) {
	own := p.tokenFor(t.id, p.Now())
	if t.open() {
		o, detail := p.patiently(ctx, t, own)
		s.mustAllow(isolation.LayerRoute, t.slug, "its own probe", o, detail)
	} else {
		o, detail := p.post(ctx, t.slug, own)
		s.mustFollow(isolation.LayerRoute, t.slug, "its own probe behind a closed gate", o, detail)
	}
	o, detail := p.post(ctx, "x-"+tenants.NewID().Hex()[:20], p.tokenFor(t.id, p.Now()))
	s.mustRefuse(isolation.LayerRoute, t.slug, "its probe at a name that nobody has", o, detail)
	for _, peer := range peers {
		o, detail := p.post(ctx, peer.slug, p.tokenFor(t.id, p.Now()))
		s.mustRefuse(isolation.LayerRoute, peer.id.String(), "its probe at another's name", o, detail)
		o, detail = p.post(ctx, t.slug, p.tokenFor(peer.id, p.Now()))
		s.mustRefuse(isolation.LayerSession, peer.id.String(), "another's probe at its name", o, detail)
	}
	p.sessions(ctx, s, t)
}

// sessions tries what can be tried without a person: no session, a made-up one, and
// tokens that expired or that another key signed.
func (p *Prover) sessions(ctx context.Context, s *sheet, t subject) {
	try := func(what string, o outcome, detail string) {
		s.mustRefuse(isolation.LayerSession, t.slug, what, o, detail)
	}
	o, detail := p.send(ctx, http.MethodGet, t.slug, "session", "")
	try("a request without a session", o, detail)
	o, detail = p.send(ctx, http.MethodGet, t.slug, "session", "ory_st_"+tenants.NewID().Hex())
	try("a request with a made-up session", o, detail)
	o, detail = p.post(ctx, t.slug, p.tokenFor(t.id, p.Now().Add(-10*probe.Life)))
	try("an expired probe", o, detail)
	if private, _, err := note.GenerateKey(rand.Reader, p.ProbeSigner.Name()); err == nil {
		if forger, err := note.NewSigner(private); err == nil {
			if token, err := probe.Mint(forger, t.id, p.Now()); err == nil {
				o, detail = p.post(ctx, t.slug, token)
				try("a probe that another key signed", o, detail)
			}
		}
	}
	if t.open() {
		o, detail = p.post(ctx, t.slug, p.tokenFor(t.id, p.Now()))
		s.mustAllow(isolation.LayerSession, t.slug, "a probe of now, by the platform's key", o, detail)
	}
}

func (p *Prover) tokenFor(tenant tenants.ID, now time.Time) string {
	token, err := probe.Mint(p.ProbeSigner, tenant, now)
	if err != nil {
		return ""
	}
	return token
}

// patiently sends the tenant's own probe until it is let in or the gate's last
// decision has had time to arrive. Each token serves once.
func (p *Prover) patiently(ctx context.Context, t subject, token string) (outcome, string) {
	deadline := time.Now().Add(routePatience)
	for {
		o, detail := p.post(ctx, t.slug, token)
		if o == allowed || time.Now().After(deadline) {
			return o, detail
		}
		if pause.For(ctx, 300*time.Millisecond) != nil {
			return o, detail
		}
		token = p.tokenFor(t.id, p.Now())
	}
}

func (p *Prover) post(ctx context.Context, slug, token string) (outcome, string) {
	return p.send(ctx, http.MethodPost, slug, "probe", token)
}

// send makes one request of a tenant's data plane. Whoever is not served is not
// known, or not signed in: any other answer shows nothing.
func (p *Prover) send(ctx context.Context, method, slug, path, bearer string) (outcome, string) {
	req, err := http.NewRequestWithContext(ctx, method, p.PublicOrigin+"/t/"+slug+"/v1/"+path, http.NoBody)
	if err != nil {
		return unclear, "the request could not be made"
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return unclear, "the public address does not answer"
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	switch {
	case res.StatusCode/100 == 2:
		return allowed, ""
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return refused, fmt.Sprintf("the answer was %d", res.StatusCode)
	}
	return unclear, fmt.Sprintf("the answer was %d", res.StatusCode)
}
