package dptest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/caresphere/caresphere/dataplane/platform"
	"github.com/caresphere/caresphere/tenants"
)

// Standing is what the control plane was told of a member.
type Standing struct {
	Organization tenants.ID `json:"organization_id"`
	Role         string     `json:"role"`
	Status       string     `json:"status"`
	Version      int64      `json:"version"`
}

// ControlPlane stands for the control plane that hears what was decided about people.
// The worker's own client speaks to it.
type ControlPlane struct {
	Client *platform.Client

	mu       sync.Mutex
	away     bool
	unknown  map[string]bool
	asked    int
	ended    map[string]int
	standing map[string][]Standing
}

func newControlPlane(t testing.TB) *ControlPlane {
	t.Helper()
	c := &ControlPlane{unknown: map[string]bool{}, ended: map[string]int{}, standing: map[string][]Standing{}}
	mux := http.NewServeMux()
	mux.HandleFunc("DELETE /internal/v1/sessions/{id}", func(w http.ResponseWriter, r *http.Request) {
		c.hear(w, r.PathValue("id"), func(id string) { c.ended[id]++ })
	})
	mux.HandleFunc("PUT /internal/v1/accounts/{id}/standing", func(w http.ResponseWriter, r *http.Request) {
		var s Standing
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.hear(w, r.PathValue("id"), func(id string) { c.standing[id] = append(c.standing[id], s) })
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.Client = &platform.Client{URL: server.URL, HTTP: server.Client()}
	return c
}

func (c *ControlPlane) hear(w http.ResponseWriter, id string, note func(string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	switch {
	case c.away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case c.unknown[id]:
		w.WriteHeader(http.StatusNotFound)
	default:
		note(id)
		w.WriteHeader(http.StatusNoContent)
	}
}

// Away makes the control plane answer nobody, or everybody again.
func (c *ControlPlane) Away(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = yes
}

// Refuse makes it know nothing of the person or session.
func (c *ControlPlane) Refuse(id tenants.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unknown[id.String()] = true
}

// Asked is how often anything was told, heard or not.
func (c *ControlPlane) Asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// Ended is how often it heard that the session is over.
func (c *ControlPlane) Ended(session tenants.ID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[session.String()]
}

// Standing is what it heard of a member, in order.
func (c *ControlPlane) Standing(member tenants.ID) []Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Standing(nil), c.standing[member.String()]...)
}
