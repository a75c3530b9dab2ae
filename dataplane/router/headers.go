package router

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
)

// HeaderEpoch tells a worker at which placement epoch the router found the tenant.
const HeaderEpoch = "Caresphere-Placement-Epoch"

// hopByHop are the headers of one connection (RFC 9110, 7.6.1), and those that
// the transport writes itself.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Expect": true, "Host": true, "Content-Length": true,
}

// named returns the headers that Connection names as its own.
func named(connection []string) map[string]bool {
	var out map[string]bool
	for _, line := range connection {
		for _, name := range strings.Split(line, ",") {
			if out == nil {
				out = map[string]bool{}
			}
			out[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return out
}

// requestHeaders copies what a client may say and adds what only the router
// says. httpx has removed the client's own claims already; here they are left out again.
func requestHeaders(c *fiber.Ctx, ctx context.Context) http.Header {
	in := &c.Request().Header
	var connection []string
	for _, v := range in.PeekAll("Connection") {
		connection = append(connection, string(v))
	}
	drop := named(connection)
	h := make(http.Header, 16)
	for k, v := range in.All() {
		name := http.CanonicalHeaderKey(string(k))
		if !hopByHop[name] && !drop[name] && !httpx.Claim(name) {
			h[name] = append(h[name], string(v))
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or the transport would write its own
	}
	ip, _, id := httpx.RequestInfo(ctx)
	h.Set("X-Real-Ip", ip)
	h.Set("X-Forwarded-For", ip)
	h.Set("X-Forwarded-Proto", "https")
	h.Set("X-Forwarded-Host", string(in.Host()))
	h.Set(httpx.HeaderRequestID, id)
	obs.Inject(ctx, h)
	return h
}

func setEpoch(h http.Header, epoch int64) {
	h.Del(HeaderEpoch)
	if epoch > 0 {
		h.Set(HeaderEpoch, strconv.FormatInt(epoch, 10))
	}
}

// responseHeaders copies an answer's headers, but those of the connection, those
// between our own processes, and those that this server writes.
func responseHeaders(out *fasthttp.ResponseHeader, in http.Header) {
	out.SetNoDefaultContentType(true)
	drop := named(in["Connection"])
	for name, values := range in {
		if hopByHop[name] || drop[name] || name == "Date" || name == "Server" || httpx.Claim(name) {
			continue
		}
		out.Del(name)
		for _, v := range values {
			out.Add(name, v)
		}
	}
}
