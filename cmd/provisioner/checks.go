package main

import (
	"context"
	"time"

	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/obs"
)

// checkSettings say how often the audit logs are read from their first entry on.
type checkSettings struct {
	Every time.Duration `env:"CARESPHERE_AUDIT_CHECK_EVERY" default:"24h"`
}

// checkLogs looks for damage in old entries until the context ends.
func checkLogs(ctx context.Context, s checkSettings, sealing *sealer.Sealer, o *obs.Obs) error {
	c := &sealer.Checks{Sealer: sealing, Every: s.Every, Registerer: o.Metrics}
	return ended(c.Run(ctx))
}
