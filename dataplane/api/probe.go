package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/maypok86/otter/v2"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/tenants"
)

// replay remembers the tokens of the last minutes: each serves once a worker.
type replay struct {
	seen *otter.Cache[tenants.ID, struct{}]
}

func newReplay() *replay {
	return &replay{otter.Must(&otter.Options[tenants.ID, struct{}]{
		MaximumSize:      10_000,
		ExpiryCalculator: otter.ExpiryCreating[tenants.ID, struct{}](3 * probe.Life),
	})}
}

// first tells whether the nonce was not seen before.
func (r *replay) first(nonce tenants.ID) bool {
	_, fresh := r.seen.SetIfAbsent(nonce, struct{}{})
	return fresh
}

type probeAnswer struct {
	OK bool `json:"ok" doc:"True: a sealed value was written, read back, opened and deleted, with its audit entry"`
}

func (a *API) probeRoute() {
	type run struct {
		TenantPath
		Authorization string `header:"Authorization" hidden:"true" maxLength:"1100"`
		Epoch         int64  `header:"Caresphere-Placement-Epoch" hidden:"true"`
	}
	op := operation{method: http.MethodPost, path: "/probe", id: "probe", tag: "Platform", status: http.StatusOK,
		summary: "Prove that the organization can be served",
		about:   "For the provisioner, with a token of its own instead of a session. Every other request is refused as for an absent organization."}.huma()
	op.Security = []map[string][]string{{"token": {}}}
	huma.Register(a.Huma, op, func(ctx context.Context, in *run) (*answer[probeAnswer], error) {
		route, ok := a.cfg.Routes.BySlug(in.Slug)
		if !ok || route.Mode == tenants.GateClosed {
			return nil, tenants.NotFound()
		}
		_, token, _ := strings.Cut(in.Authorization, " ")
		claims, err := probe.Verify(a.cfg.Probe, token, route.TenantID, time.Now())
		if err != nil {
			return nil, tenants.WrapError(tenants.KindNotFound, "not found", err)
		}
		if in.Epoch != route.Epoch {
			return nil, tenants.NewError(tenants.KindMisdirected, "the organization is not served here at this placement")
		}
		if !a.replay.first(claims.Nonce) {
			return nil, tenants.NotFound()
		}
		obs.SetTenant(ctx, route.TenantID)
		var from tenants.Actor
		from.IP, from.Device, from.RequestID = httpx.RequestInfo(ctx)
		if err := a.cfg.Door.Probe(ctx, route.TenantID, from); err != nil {
			return nil, err
		}
		return &answer[probeAnswer]{Body: probeAnswer{OK: true}}, nil
	})
}
