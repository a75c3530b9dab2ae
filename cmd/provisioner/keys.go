package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/pause"
)

// keySettings say how often it is looked whether the closed keys are closed.
type keySettings struct {
	Every time.Duration `env:"CARESPHERE_KEY_CHECK_EVERY" default:"10m"`
}

// keysTime bounds one look.
const keysTime = time.Minute

// holdKeysClosed makes the KMS refuse the keys that it records as closed, at the start
// and now and then until the context ends. One that keeps that in one place needs none.
func holdKeysClosed(ctx context.Context, every time.Duration, keys kms.KMS, o *obs.Obs) {
	r, ok := keys.(kms.Reconciler)
	if !ok {
		return
	}
	for {
		wait := every + rand.N(every/10+1) //nolint:gosec // scattering, no secret
		switch mended, err := reconcileKeys(ctx, r); {
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			o.Log.WarnContext(ctx, "it could not be looked whether the closed keys are closed", obs.Err(err))
			wait = min(wait, 5*time.Second)
		case mended > 0:
			o.Log.ErrorContext(ctx, "KEYS THAT ARE RECORDED AS CLOSED WERE NOT, OR THE REVERSE: the key service refuses by its record again", "policies", mended)
		}
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

func reconcileKeys(ctx context.Context, r kms.Reconciler) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	return r.Reconcile(ctx)
}
