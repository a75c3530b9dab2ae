package httpx

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/tenants"
)

// Causes of a cancelled request context, found by context.Cause.
var (
	// ErrClientGone: the client closed its connection.
	ErrClientGone = errors.New("the client has gone")
	// ErrDraining: the process is stopping and the time for requests in flight is over.
	ErrDraining = errors.New("the process is stopping")
	// ErrTooLong: the request took longer than Config.RequestTime.
	ErrTooLong = errors.New("the request took too long")
	errDone    = errors.New("the request is over")
)

// HeaderRequestID names a request in both directions.
const HeaderRequestID = "X-Request-Id"

// maxDevice is what is kept of a user agent, in bytes.
const maxDevice = 200

type localKey struct{ name string }

var (
	requestLocal = &localKey{"request"}
	requestCtx   = &localKey{"context"}
)

// request is what this package knows of a request. It ends when the handler
// returned, or when the streamed answer is over.
type request struct {
	ctx            context.Context
	cancel         context.CancelCauseFunc
	id, ip, device string
	peer           string
	trusted        bool
	watch          *watch
	body           *bodyStream
	streams        bool
	limit          *time.Timer
	inFlight       *atomic.Int64
	once           sync.Once
}

// bound ends the request's context after so long.
func (r *request) bound(d time.Duration) {
	if d > 0 {
		r.limit = time.AfterFunc(d, func() { r.cancel(ErrTooLong) })
	}
}

// unbound takes the limit back.
func (r *request) unbound() {
	if r.limit != nil {
		r.limit.Stop()
	}
}

func (r *request) end() {
	r.once.Do(func() {
		r.unbound()
		if r.watch != nil {
			clients.remove(r.watch)
		}
		r.cancel(errDone)
		r.inFlight.Add(-1)
	})
}

func requestOf(c *fiber.Ctx) *request {
	r, _ := c.Locals(requestLocal).(*request)
	return r
}

// begin removes what an untrusted peer claims, names the request and gives it a context.
func (s *server) begin(c *fiber.Ctx) *request {
	r := &request{peer: PeerCN(c), inFlight: &s.inFlight}
	s.inFlight.Add(1)
	r.trusted = r.peer != "" && slices.Contains(s.cfg.TrustedPeers, r.peer)
	h := &c.Request().Header
	if r.trusted {
		if id, err := tenants.ParseID(string(h.Peek(HeaderRequestID))); err == nil {
			r.id = id.String()
		}
		if ip, err := netip.ParseAddr(string(h.Peek("X-Real-Ip"))); err == nil {
			r.ip = ip.Unmap().String()
		}
	} else {
		stripClaims(h)
	}
	if r.id == "" {
		r.id = tenants.NewID().String()
	}
	if r.ip == "" {
		r.ip = remoteIP(c.Context().RemoteAddr())
	}
	r.device = cut(string(h.UserAgent()), maxDevice)

	ctx := obs.WithRequest(s.base, r.id)
	ctx = context.WithValue(ctx, requestCtx, r)
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.watch = clients.add(c.Context().Conn(), r.cancel)
	c.Locals(requestLocal, r)
	c.SetUserContext(r.ctx)
	c.Set(HeaderRequestID, r.id)
	return r
}

// Claim tells whether the header says something about the client or the way a
// request came, which only our own router may say.
func Claim(name string) bool {
	n := strings.ToLower(name)
	switch n {
	case "forwarded", "x-real-ip", "x-request-id", "traceparent", "tracestate", "baggage",
		"x-original-url", "x-rewrite-url", "x-http-method-override", "true-client-ip", "via":
		return true
	}
	return strings.HasPrefix(n, "x-forwarded-") || strings.HasPrefix(n, "caresphere-")
}

func stripClaims(h *fasthttp.RequestHeader) {
	var drop []string
	for k := range h.All() {
		if Claim(string(k)) {
			drop = append(drop, string(k))
		}
	}
	for _, k := range drop {
		h.Del(k)
	}
}

// Context returns the request's context: it carries the request id and the
// trace, and ends when the client goes (seen within a fraction of a second), when
// the request took too long, when the time to drain is over, and when the answer is
// written. context.Cause says which.
func Context(c *fiber.Ctx) context.Context { return c.UserContext() }

// Unbounded lifts Config.RequestTime off a request that waits on purpose and has a
// limit of its own, for a context made from Context or huma's.
func Unbounded(ctx context.Context) {
	if r, ok := ctx.Value(requestCtx).(*request); ok {
		r.unbound()
	}
}

// RequestInfo returns the client's address, its user agent (cut to 200 bytes) and
// the request's id, for a context made from Context or huma's. They are empty for
// any other context.
func RequestInfo(ctx context.Context) (ip, device, requestID string) {
	if r, ok := ctx.Value(requestCtx).(*request); ok {
		return r.ip, r.device, r.id
	}
	return "", "", ""
}

// Trusted tells whether the request came through a peer in Config.TrustedPeers.
func Trusted(c *fiber.Ctx) bool {
	r := requestOf(c)
	return r != nil && r.trusted
}

// PeerCN returns the common name in the peer's verified certificate, or "" when
// it has shown none.
func PeerCN(c *fiber.Ctx) string {
	if r := requestOf(c); r != nil {
		return r.peer
	}
	state := c.Context().TLSConnectionState()
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// PeerFrom is PeerCN for a request's context.
func PeerFrom(ctx context.Context) string {
	if r, ok := ctx.Value(requestCtx).(*request); ok {
		return r.peer
	}
	return ""
}

// RequirePeer answers 403 unless the peer's certificate bears one of the names.
func RequirePeer(names ...string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if !slices.Contains(names, PeerCN(c)) {
			return tenants.NewError(tenants.KindForbidden, "this endpoint is for other services of the platform")
		}
		return c.Next()
	}
}

func remoteIP(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	return ""
}

// cut shortens s to n bytes without splitting a rune, and drops what is not UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
