package scale_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// caller sends requests through the router.
type caller struct {
	origin string
	http   *http.Client
}

func (s *stack) caller(t testing.TB) *caller {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{origin: s.Origin(), http: &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

// send returns the answer's body, or an error for any status but the one wanted.
func (c *caller) send(ctx context.Context, n *tenant, method, path string, status int, body any) ([]byte, error) {
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.origin+"/t/"+n.slug+"/v1"+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", n.id.String())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != status {
		err = fmt.Errorf("%s %s of %s was answered %d: %.200s", method, path, n.slug, res.StatusCode, raw)
	}
	return raw, err
}

// admit writes a client's record: the first request that a tenant ever has.
func (c *caller) admit(ctx context.Context, n *tenant) error {
	raw, err := c.send(ctx, n, http.MethodPost, "/clients", http.StatusCreated, map[string]any{"facility_id": n.facility.String(),
		"name": map[string]string{"given": "Rosa", "family": "Okonkwo"}, "birth_date": "1948-03-11", "record_number": "MRN-1"})
	if err != nil {
		return err
	}
	var made struct{ ID string }
	if err := json.Unmarshal(raw, &made); err != nil || made.ID == "" {
		return fmt.Errorf("no id in the answer: %w", err)
	}
	n.client = made.ID
	return nil
}

// read reads the client's record.
func (c *caller) read(ctx context.Context, n *tenant) error {
	_, err := c.send(ctx, n, http.MethodGet, "/clients/"+n.client, http.StatusOK, nil)
	return err
}

// latencies are those of one kind of load.
type latencies struct {
	Load      string        `json:"load"`
	Requests  int           `json:"requests"`
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50"`
	P99       time.Duration `json:"p99"`
	Max       time.Duration `json:"max"`
}

// drive has as many clients work until there is no next one or the time is over. The
// first error ends it.
func drive(t testing.TB, name string, clients int, limit time.Duration, next func(r *rand.Rand, k int) *tenant, work func(context.Context, *tenant) error) latencies {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, nil)
	defer cancel()
	var (
		mu   sync.Mutex
		all  []time.Duration
		wg   sync.WaitGroup
		fail error
	)
	begun := time.Now()
	for c := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(c)))
			var mine []time.Duration
			for k := c; ctx.Err() == nil; k += clients {
				n := next(r, k)
				if n == nil {
					break
				}
				sent := time.Now()
				if err := work(t.Context(), n); err != nil {
					mu.Lock()
					if fail == nil {
						fail = err
					}
					mu.Unlock()
					cancel()
					break
				}
				mine = append(mine, time.Since(sent))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	took := time.Since(begun)
	require.NoError(t, fail, name)
	require.NotEmpty(t, all, name)
	slices.Sort(all)
	at := func(share float64) time.Duration { return all[min(len(all)-1, int(float64(len(all))*share))] }
	return latencies{Load: name, Requests: len(all), PerSecond: float64(len(all)) / took.Seconds(), P50: at(0.5), P99: at(0.99), Max: all[len(all)-1]}
}

// each takes every tenant once.
func each(some []*tenant) func(*rand.Rand, int) *tenant {
	return func(_ *rand.Rand, k int) *tenant {
		if k >= len(some) {
			return nil
		}
		return some[k]
	}
}

// uneven draws tenants as customers are: few with much to do, many with little (a
// Zipf distribution with an exponent of 1.1).
func uneven(some []*tenant) func(*rand.Rand, int) *tenant {
	var mu sync.Mutex
	draws := map[*rand.Rand]*rand.Zipf{}
	return func(r *rand.Rand, _ int) *tenant {
		mu.Lock()
		z := draws[r]
		if z == nil {
			z = rand.NewZipf(r, 1.1, 1, uint64(len(some)-1))
			draws[r] = z
		}
		mu.Unlock()
		return some[z.Uint64()]
	}
}

// even draws tenants all alike.
func even(some []*tenant) func(*rand.Rand, int) *tenant {
	return func(r *rand.Rand, _ int) *tenant { return some[r.IntN(len(some))] }
}
