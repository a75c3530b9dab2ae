package testkit

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/devstack/proc"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// S3Server is the run's object store. It is shared: tests use prefixes of their own.
type S3Server struct {
	// Host is host:port, over TLS; CA the file of its certificate's authority.
	Host, CA string
	// Bucket exists; AccessKey and SecretKey may do everything.
	Bucket, AccessKey, SecretKey string
}

// URL is the store in the form of CARESPHERE_BLOB.
func (s *S3Server) URL() string { return "s3:https://" + s.Host + "/" + s.Bucket }

// S3 returns the run's object store.
func S3(t testing.TB) *S3Server {
	t.Helper()
	s := ask[S3Server](t, "s3", nil)
	return &s
}

// StripeServer is the run's stripe-mock: stateless, any test key will do.
type StripeServer struct {
	// URL is the API's base, over TLS; CA the file of its certificate's authority.
	URL, CA string
}

// StripeMock returns the run's stripe-mock.
func StripeMock(t testing.TB) *StripeServer {
	t.Helper()
	s := ask[StripeServer](t, "stripe", nil)
	return &s
}

func (h *Host) startS3(ctx context.Context) (any, error) {
	built, err := h.builder.Build(ctx, tools.VersityGW)
	if err != nil {
		return nil, err
	}
	ports, err := h.ports(1)
	if err != nil {
		return nil, err
	}
	access, secret := "test"+rand.Text()[:12], rand.Text()+rand.Text()
	s, err := devstack.StartS3(ctx, devstack.S3Config{
		Bin: built[tools.VersityGW], Dir: filepath.Join(h.dir, "s3"), Log: h.log("s3"), Port: ports[0],
		Server: h.server, CA: h.ca.CertPath(), AccessKey: access, SecretKey: secret, Bucket: "caresphere-test",
	})
	if err != nil {
		return nil, err
	}
	h.onClose(s.Process().Stop)
	return S3Server{Host: s.Host(), CA: h.ca.CertPath(), Bucket: "caresphere-test", AccessKey: access, SecretKey: secret}, nil
}

func (h *Host) startStripe(ctx context.Context) (any, error) {
	built, err := h.builder.Build(ctx, tools.StripeMock)
	if err != nil {
		return nil, err
	}
	ports, err := h.ports(2)
	if err != nil {
		return nil, err
	}
	s, err := devstack.StartStripe(ctx, devstack.StripeConfig{
		Bin: built[tools.StripeMock], Log: h.log("stripe-mock"), Port: ports[0], PlainPort: ports[1],
		Server: h.server, CA: h.ca.CertPath(),
	})
	if err != nil {
		return nil, err
	}
	h.onClose(s.Stop)
	return StripeServer{URL: s.URL(), CA: h.ca.CertPath()}, nil
}

// ToxiproxyServer makes slow, cut and reset connections.
type ToxiproxyServer struct {
	// API is the base URL of its HTTP API, plain on the loopback.
	API string
}

func (h *Host) startToxiproxy(ctx context.Context) (any, error) {
	built, err := h.builder.Build(ctx, tools.Toxiproxy)
	if err != nil {
		return nil, err
	}
	ports, err := h.ports(1)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(proc.Spec{
		Name: "toxiproxy", Path: built[tools.Toxiproxy], Args: []string{"-host", "127.0.0.1", "-port", strconv.Itoa(ports[0])},
		Env: []string{"LOG_LEVEL=error"}, Log: h.log("toxiproxy"),
	})
	if err != nil {
		return nil, err
	}
	api := "http://127.0.0.1:" + strconv.Itoa(ports[0])
	err = p.Ready(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/version", nil)
		if err != nil {
			return err
		}
		res, err := plain.Do(req)
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	h.onClose(p.Stop)
	return ToxiproxyServer{API: api}, nil
}

// hostOf returns the host:port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

func stopAtCleanup(t testing.TB, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		t.Logf("stopping: %v", err)
	}
}
