// Command controlplane serves the customers' pages and API, the operators' console
// and the guarded way to Kratos. It touches the control database, Kratos and the
// mail server; it never reads a tenant's schema or key.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	s, err := config.Load[settings]()
	if err != nil {
		return err
	}
	o, flush, err := obs.Setup(ctx, "controlplane", s.Obs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, flush(context.WithoutCancel(ctx))) }()
	p, err := newPlane(ctx, s, o)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.serve(ctx)
}

// serve answers until the context ends, then drains. Work beside requests goes on
// until the last request is answered.
func (p *plane) serve(ctx context.Context) error {
	health, public, operators, err := p.endpoints()
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait := p.background(work)
	defer wait.Wait()
	defer stop()
	defer context.AfterFunc(ctx, p.feed.End)()
	return httpx.Run(ctx, health, public, operators)
}

// endpoints are the apps with their listeners' addresses and certificates.
func (p *plane) endpoints() (health, public, operators httpx.Endpoint, err error) {
	s := p.settings
	mutual, err := httpx.MutualTLS(s.TLSCA, s.TLSCert, s.TLSKey, peerRouter, peerData, peerProvisioner)
	if err != nil {
		return health, public, operators, err
	}
	console, err := httpx.ServerTLS(s.OperatorTLSCert, s.OperatorTLSKey)
	if err != nil {
		return health, public, operators, err
	}
	watch, err := httpx.ServerTLS(s.TLSCert, s.TLSKey)
	if err != nil {
		return health, public, operators, err
	}
	public = httpx.Endpoint{App: p.publicApp(), Address: s.Listen, TLS: mutual}
	operators = httpx.Endpoint{App: p.operatorApp(), Address: s.OperatorListen, TLS: console}
	health = httpx.Endpoint{App: p.healthApp(httpx.Draining(public.App)), Address: s.HealthListen, TLS: watch}
	return health, public, operators, nil
}
