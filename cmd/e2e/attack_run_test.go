package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// attack is a request that must not get anywhere, and how to tell.
type attack struct {
	what         string
	x            wire
	method, path string
	body         any
	// marks must not be in the answer.
	marks []string
	// judge says what is wrong with the answer, or nothing.
	judge func(reply) string
	// absent is the same request for what does not exist; its answer must be the same.
	absent *attack
}

// findings are what a set of attacks came to.
type findings struct {
	tried, pairs  int
	gave, differs []string
}

// attackers is how many attacks run at once.
const attackers = 4

// launch sends the attacks and judges their answers.
func launch(ctx context.Context, list []attack) findings {
	var (
		f  findings
		mu sync.Mutex
		wg sync.WaitGroup
	)
	work := make(chan attack)
	for range attackers {
		wg.Go(func() {
			for a := range work {
				gave, differs := a.run(ctx)
				mu.Lock()
				f.tried++
				if gave != "" {
					f.gave = append(f.gave, gave)
				}
				if a.absent != nil {
					f.pairs++
				}
				if differs != "" {
					f.differs = append(f.differs, differs)
				}
				mu.Unlock()
			}
		})
	}
	for _, a := range list {
		work <- a
	}
	close(work)
	wg.Wait()
	return f
}

func (a attack) send(ctx context.Context) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return a.x.try(ctx, a.method, a.path, a.body)
}

func (a attack) run(ctx context.Context) (gave, differs string) {
	r, err := a.send(ctx)
	if err != nil {
		return a.what + ": " + err.Error(), ""
	}
	for _, mark := range a.marks {
		if mark != "" && strings.Contains(r.body, mark) {
			return fmt.Sprintf("%s: %d shows %q", a.what, r.status, mark), ""
		}
	}
	if wrong := a.judge(r); wrong != "" {
		gave = fmt.Sprintf("%s: %s: %d %.300s", a.what, wrong, r.status, r.body)
	}
	if a.absent != nil {
		twin, err := a.absent.send(ctx)
		if err != nil {
			return gave, a.what + ", absent: " + err.Error()
		}
		// What succeeds is the asker's own, which goes on changing meanwhile.
		if r.status != twin.status || r.status >= 400 && r.told() != twin.told() {
			differs = fmt.Sprintf("%s: %d %s, but absent %d %s", a.what, r.status, r.told(), twin.status, twin.told())
		}
	}
	return gave, differs
}

// told is what a refusal says, less the name of the request.
func (r reply) told() string {
	var problem m
	if json.Unmarshal([]byte(r.body), &problem) != nil {
		return r.body
	}
	delete(problem, "request_id")
	raw, err := json.Marshal(problem) // its keys in their order
	if err != nil {
		return r.body
	}
	return r.head.Get("Content-Type") + " " + string(raw)
}

// isRefused wants a refusal that tells nothing.
func isRefused(r reply) string {
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return ""
	}
	return "is not refused"
}

func isNotFound(r reply) string {
	if r.status == http.StatusNotFound {
		return ""
	}
	return "is not 404"
}

// isNothingDone wants no success; what is wrong with the request may be said.
func isNothingDone(r reply) string {
	if r.status >= 400 && r.status < 500 {
		return ""
	}
	return "is done"
}

func anything(r reply) string {
	if r.status >= 500 {
		return "fails"
	}
	return ""
}

// leak stands in front of one of the stack's origins and does to requests and answers
// what a fault would. It returns the address to attack.
func (w *world) leak(t *testing.T, origin string, request func(*http.Request), answer func(*http.Response) error) string {
	t.Helper()
	to, err := url.Parse(origin)
	require.NoError(t, err)
	tr := w.wire(t, origin).http.Transport
	s := httptest.NewServer(&httputil.ReverseProxy{
		Transport: tr, ModifyResponse: answer,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to) // and with it the host
			if request != nil {
				request(r.Out)
			}
		},
	})
	t.Cleanup(s.Close)
	return s.URL
}
