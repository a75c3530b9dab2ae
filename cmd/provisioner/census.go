package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caresphere/caresphere/controlplane/census"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/routes"
)

// censusSettings say how often everything that the cell holds is accounted for.
type censusSettings struct {
	Every time.Duration `env:"CARESPHERE_CENSUS_EVERY" default:"24h"`
	// ControlPlane hands out the route table, and RoutePub is the file with the key that
	// it is signed by. Without the address no route is looked at.
	ControlPlane string `env:"CARESPHERE_CONTROLPLANE_URL"`
	RoutePub     string `env:"CARESPHERE_ROUTE_PUB"`
}

// routes returns what reads the route table, nil without an address.
func (s settings) routes() (census.Routes, error) {
	if s.Census.ControlPlane == "" {
		return nil, nil
	}
	conf, err := httpx.ClientTLS(s.TLSCA, s.TLSCert, s.TLSKey, "controlplane")
	if err != nil {
		return nil, fmt.Errorf("preparing calls of the control plane: %w", err)
	}
	return routes.Reader(s.Census.ControlPlane, s.Census.RoutePub, conf)
}

// censusTime bounds one census.
const censusTime = 15 * time.Minute

// countAll takes a census now and then until the context ends. What belongs to nobody
// or is missing is logged and counted; a person decides about it.
func countAll(ctx context.Context, every time.Duration, c census.Config, o *obs.Obs) {
	found := prometheus.NewGauge(prometheus.GaugeOpts{Name: "caresphere_census_findings", Help: "What the last census of the cell could not account for."})
	last := prometheus.NewGauge(prometheus.GaugeOpts{Name: "caresphere_census_timestamp_seconds", Help: "When the last census of the cell ended."})
	o.Metrics.MustRegister(found, last)
	if c.Routes == nil {
		o.Log.WarnContext(ctx, "no census looks at routes: CARESPHERE_CONTROLPLANE_URL is not set")
	}
	for {
		// Up to a tenth later, so that several provisioners do not count at once.
		if pause.For(ctx, every+rand.N(every/10+1)) != nil { //nolint:gosec // scattering, no secret
			return
		}
		r, err := takeCensus(ctx, c)
		if err != nil {
			if ctx.Err() == nil {
				o.Log.WarnContext(ctx, "a census was not taken", obs.Err(err))
			}
			continue
		}
		found.Set(float64(len(r.Findings)))
		last.SetToCurrentTime()
		for _, f := range r.Findings {
			o.Log.ErrorContext(ctx, "not accounted for", slog.String("finding", f.String()))
		}
	}
}

func takeCensus(ctx context.Context, c census.Config) (census.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, censusTime)
	defer cancel()
	return census.Take(ctx, c)
}
