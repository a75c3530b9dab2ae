package blob_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/blob/blobtest"
	"github.com/caresphere/caresphere/internal/testkit"
)

func s3Config(t *testing.T, server *testkit.S3Server, url string) blob.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := blob.Config{URL: url, CAFile: server.CA, AccessKeyFile: filepath.Join(dir, "access"), SecretKeyFile: filepath.Join(dir, "secret")}
	for path, text := range map[string]string{cfg.AccessKeyFile: server.AccessKey, cfg.SecretKeyFile: server.SecretKey} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func openS3(t *testing.T, cfg blob.Config) blob.Store {
	t.Helper()
	s, err := blob.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3Conformance(t *testing.T) {
	server := testkit.S3(t)
	blobtest.Run(t, openS3(t, s3Config(t, server, server.URL())))
}

func TestS3RefusesStrangers(t *testing.T) {
	server := testkit.S3(t)
	good := s3Config(t, server, server.URL())
	if err := openS3(t, good).Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong := s3Config(t, server, server.URL())
	if err := os.WriteFile(wrong.SecretKeyFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openS3(t, wrong)
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrAuth) {
		t.Errorf("put with a wrong secret: %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, blob.ErrAuth) {
		t.Errorf("get with a wrong secret: %v", err)
	}
	stranger := good
	stranger.CAFile = testkit.Other(t).Path()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := openS3(t, stranger).Health(ctx); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a server of another authority: %v", err)
	}
}

func TestS3BucketIsMadeOnlyOnRequest(t *testing.T) {
	server := testkit.S3(t)
	cfg := s3Config(t, server, "s3:https://"+server.Host+"/made-on-request")
	s := openS3(t, cfg)
	if err := s.Health(t.Context()); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("health without a bucket: %v", err)
	}
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("put without a bucket: %v", err)
	}
	for range 2 {
		if err := blob.CreateBucket(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Health(t.Context()), s.EnsurePrefix(t.Context(), "a/")); err != nil {
		t.Error(err)
	}
}

func TestS3NetworkFaults(t *testing.T) {
	server := testkit.S3(t)
	proxy := testkit.Toxiproxy(t, "https://"+server.Host)
	s := openS3(t, s3Config(t, server, "s3:https://"+proxy.Addr+"/"+server.Bucket))
	body := strings.Repeat("x", 1<<20)
	prefix := "faults-" + strings.ToLower(t.Name()) + "/"
	if err := s.Put(t.Context(), prefix+"there", strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]func(){"down": proxy.Down, "hang": proxy.Hang, "reset": proxy.Reset, "cut": func() { proxy.CutAfter(100) }} {
		fault()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		began := time.Now()
		if err := s.Put(ctx, prefix+name, strings.NewReader(body), int64(len(body))); !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("%s: put: %v", name, err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: the call outlived its deadline: %v", name, took)
		}
		cancel()
		proxy.Heal()
	}
	// A download that is cut in the middle is an error and not a short object.
	direct := openS3(t, s3Config(t, server, server.URL()))
	proxy.CutAfter(300_000)
	r, err := s.Get(t.Context(), prefix+"there")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	_ = r.Close()
	if !errors.Is(err, blob.ErrUnavailable) || len(got) == len(body) {
		t.Errorf("a cut download gave %d bytes and %v", len(got), err)
	}
	proxy.Heal()
	for _, store := range []blob.Store{s, direct} {
		r, err := store.Get(t.Context(), prefix+"there")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != body {
			t.Errorf("afterwards: %d bytes, %v", len(got), err)
		}
		_ = r.Close()
	}
}
