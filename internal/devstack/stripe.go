package devstack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// StripeConfig says how stripe-mock is run.
type StripeConfig struct {
	// Bin is the server's binary; Log is its log.
	Bin, Log string
	// Port is the TLS port; PlainPort is where stripe-mock itself listens, on the
	// loopback alone.
	Port, PlainPort int
	Server          pki.Pair
	CA              string
}

// StripeServer is a running stripe-mock behind TLS.
type StripeServer struct {
	cfg     StripeConfig
	process *proc.Process
	front   *http.Server
}

// StartStripe starts stripe-mock and waits until it answers. The certificate that
// is built into it names no host, so that no client may accept it: a front in
// this process has one of ours.
func StartStripe(ctx context.Context, cfg StripeConfig) (*StripeServer, error) {
	for _, port := range []int{cfg.Port, cfg.PlainPort} {
		if err := CheckPort("stripe-mock", port); err != nil {
			return nil, err
		}
	}
	plain := "127.0.0.1:" + strconv.Itoa(cfg.PlainPort)
	process, err := proc.Start(proc.Spec{
		Name: "stripe-mock", Path: cfg.Bin,
		// Not told where, it would open its own TLS port too: a fixed one, to everybody.
		Args: []string{"-http-addr", plain, "-https-addr", "127.0.0.1:"}, Env: plainEnv(), Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s := &StripeServer{cfg: cfg, process: process}
	if s.front, err = serveTLS(cfg.Port, cfg.Server, &url.URL{Scheme: "http", Host: plain}); err != nil {
		return nil, errors.Join(err, process.Stop(context.WithoutCancel(ctx)))
	}
	client, err := httpsClient(cfg.CA)
	if err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	err = process.Ready(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/v1/customers", nil)
		if err != nil {
			return err
		}
		req.SetBasicAuth("sk_test_ready", "")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("stripe-mock answers %s", res.Status)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// URL is the API's base.
func (s *StripeServer) URL() string { return loopbackURL(s.cfg.Port) }

// Process is stripe-mock itself, to be watched.
func (s *StripeServer) Process() *proc.Process { return s.process }

// Stop ends the front and the server.
func (s *StripeServer) Stop(ctx context.Context) error {
	return errors.Join(s.front.Close(), s.process.Stop(ctx))
}

// serveTLS forwards a loopback TLS port to a plain one.
func serveTLS(port int, pair pki.Pair, to *url.URL) (*http.Server, error) {
	cert, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("loading the certificate: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listening on port %d: %w", port, err)
	}
	// What clients do wrong in a handshake they see themselves.
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server := &http.Server{
		Handler:           &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, ErrorLog: quiet},
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          quiet,
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return server, nil
}
