package api_test

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"log/slog"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// TestTheDatabaseAwayAndBack cuts the worker from its database: 503 with a hint
// when to come again, and service as before once it is back, without a restart.
func TestTheDatabaseAwayAndBack(t *testing.T) {
	var proxy *testkit.Proxy
	cell := dptest.Start(t, dptest.WithDSN(func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		proxy = testkit.Toxiproxy(t, u.Host)
		_, port, err := net.SplitHostPort(proxy.Addr)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
		return u.String()
	}))
	p := furnish(t, cell, "harbor")
	proxy.Down()
	for _, path := range []string{"/clients", p.at(""), "/session"} {
		a := p.Owner.Do(t, "GET", path, nil)
		if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || strings.Contains(string(a.Body), "Alvarez") {
			t.Errorf("%s without the database answers %d: %s", path, a.Status, a.Body)
		}
	}
	proxy.Up()
	eventually(t, func() bool { return p.Owner.Do(t, "GET", p.at(""), nil).Status == http.StatusOK })
}

// syncBuffer takes log lines of many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestLogsHoldNoPHI writes, reads, searches, fails and breaks with markers, and
// looks for them in everything that was logged at the most talkative level.
func TestLogsHoldNoPHI(t *testing.T) {
	var log syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	cell := dptest.Start(t, dptest.WithLog(&log))
	p := furnish(t, cell, "harbor")
	const marker = "Zyxmarker"
	body := m{"facility_id": p.North, "name": m{"given": marker, "family": marker}, "birth_date": "1948-03-11", "record_number": marker}
	p.Owner.Do(t, "POST", "/clients", body).ID(t)
	p.Owner.Do(t, "POST", "/clients", body).Into(t, http.StatusConflict, nil)
	p.Owner.Do(t, "POST", "/clients/search", m{"family": marker}).Into(t, http.StatusOK, nil)
	p.Owner.Do(t, "POST", p.at("/notes"), m{"shift": "day", "body": marker}).ID(t)
	// A defect: the database refuses what no code expects.
	cell.Exec(t, "ALTER TABLE "+p.Role+".shift_note ADD CONSTRAINT planted CHECK (false) NOT VALID")
	if a := p.Owner.Do(t, "POST", p.at("/notes"), m{"shift": "day", "body": marker}); a.Status != http.StatusInternalServerError || a.Problem(t).Kind() != tenants.KindInternal {
		t.Errorf("a defect answers %d: %s", a.Status, a.Body)
	}
	cell.Exec(t, "ALTER TABLE "+p.Role+".client ADD CONSTRAINT planted CHECK (false) NOT VALID")
	p.Owner.Do(t, "POST", "/clients", m{"facility_id": p.North, "name": m{"given": marker, "family": marker}, "birth_date": "1948-03-11"})
	if !strings.Contains(log.String(), "request failed") {
		t.Fatal("the defect was not logged, so nothing was looked at")
	}
	if strings.Contains(log.String(), marker) {
		t.Errorf("PHI in the log: %s", log.String())
	}
}
