package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
)

// span is what the trace files say of one.
type span struct {
	Name        string
	SpanContext struct{ TraceID string }
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return fmt.Sprint(a.Value.Value)
		}
	}
	return ""
}

func (w *world) traced(t *testing.T, program string) (all []span) {
	t.Helper()
	for line := range strings.SplitSeq(w.Spans(t, program), "\n") {
		var s span
		if json.Unmarshal([]byte(line), &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

// spans waits for a request's spans and returns them by program: its trace begins
// at the router, whatever the client says.
func (w *world) spans(t *testing.T, requestID string) map[string][]span {
	t.Helper()
	require.NotEmpty(t, requestID)
	found := map[string][]span{}
	until(t, 20*time.Second, "the spans of a request are written", func() (bool, string) {
		clear(found)
		trace := ""
		for _, s := range w.traced(t, devstack.Router) {
			if s.attribute("caresphere.request_id") == requestID {
				trace = s.SpanContext.TraceID
			}
		}
		if trace == "" {
			return false, "none of the router's"
		}
		database := 0
		for _, program := range append([]string{devstack.Router}, workers...) {
			for _, s := range w.traced(t, program) {
				if s.SpanContext.TraceID != trace {
					continue
				}
				found[program] = append(found[program], s)
				if s.attribute("db.system.name") != "" || s.attribute("db.system") != "" || strings.HasPrefix(s.Name, "pg ") {
					database++
				}
			}
		}
		return len(found[devstack.WorkerA])+len(found[devstack.WorkerB]) > 0 && database > 0, fmt.Sprintf("%+v", found)
	})
	return found
}

func TestOneTraceGoesFromTheRouterToTheDatabase(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.other(t)
	claimed := strings.Repeat("ab", 16)
	a := w.wire(t, w.Origin()).as(l.Nurse.Client).with("Traceparent", "00-"+claimed+"-"+strings.Repeat("cd", 8)+"-01").
		do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
	require.Equal(t, http.StatusOK, a.status)
	for program, spans := range w.spans(t, a.head.Get("X-Request-Id")) {
		for _, s := range spans {
			require.NotEqual(t, claimed, s.SpanContext.TraceID, "%s believes a client about the trace", program)
			require.NotContains(t, s.Name, l.Slug, "a span is named by the template")
		}
	}
	for _, program := range devstack.Programs() {
		x := w.wire(t, w.URL(devstack.HealthPort(program)))
		require.Equal(t, http.StatusOK, x.do(t, http.MethodGet, "/livez", nil).status, program)
		require.Equal(t, http.StatusOK, x.do(t, http.MethodGet, "/readyz", nil).status, program)
	}
}
