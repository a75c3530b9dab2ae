package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/evidence"
)

// artifacts is what anyone may check with the CLI and no network.
type artifacts struct {
	jsonl, csv, bundle, isolation []byte
	keys                          string
}

func (s *story) exportVerifies(ctx context.Context) (string, error) {
	t := s.a.owner.Tenant(s.a.slug)
	keys, err := t.AuditKeys(ctx)
	if err != nil {
		return "", fmt.Errorf("public keys: %w", err)
	}
	s.kept.keys = keys
	if s.kept.jsonl, err = download(ctx, s.a.owner.Client, t.AuditExportPath("jsonl")); err != nil {
		return "", err
	}
	if s.kept.csv, err = download(ctx, s.a.owner.Client, t.AuditExportPath("csv")); err != nil {
		return "", err
	}
	entries := int64(0)
	for name, file := range map[string][]byte{"jsonl": s.kept.jsonl, "csv": s.kept.csv} {
		r, err := s.verifyAudit(file)
		if err != nil {
			return "", err
		}
		if !r.OK {
			return "", fmt.Errorf("%s: %d problems, first: %+v", name, r.Found, r.Problems[0])
		}
		if r.Entries == 0 {
			return "", fmt.Errorf("%s: %w", name, errNothing)
		}
		entries = max(entries, r.Entries)
	}
	return fmt.Sprintf("%d entries in JSON Lines and CSV, checked with the public keys alone", entries), nil
}

func (s *story) verifyAudit(file []byte) (verify.Report, error) {
	keys, err := verify.ParseKeys(s.kept.keys)
	if err != nil {
		return verify.Report{}, fmt.Errorf("the published keys: %w", err)
	}
	return verify.File(bytes.NewReader(file), keys)
}

func (s *story) exportTampered(context.Context) (string, error) {
	named := ""
	for name, file := range map[string][]byte{"jsonl": s.kept.jsonl, "csv": s.kept.csv} {
		r, err := s.verifyAudit(flipped(file))
		if err != nil {
			return "", err
		}
		if r.OK || len(r.Problems) == 0 {
			return "", fmt.Errorf("%s: a changed byte went unnoticed", name)
		}
		named = fmt.Sprintf("line %d", r.Problems[0].Line)
	}
	return "found and named at " + named, nil
}

func (s *story) bundleVerifies(ctx context.Context) (string, error) {
	var err error
	if s.kept.bundle, err = download(ctx, s.a.owner.Client, "/api/v1/baas/"+s.a.baa.ID+"/bundle"); err != nil {
		return "", err
	}
	r := evidence.Verify(s.kept.bundle, nil)
	if !r.OK {
		return "", fmt.Errorf("problems: %v", r.Problems)
	}
	bad := evidence.Verify(flipped(s.kept.bundle), nil)
	if bad.OK || len(bad.Problems) == 0 {
		return "", errors.New("a changed byte went unnoticed")
	}
	return fmt.Sprintf("both signatures hold; the changed byte is in the %s", bad.Problems[0].Part), nil
}

// flipped returns a copy with one bit of its middle byte changed.
func flipped(b []byte) []byte {
	c := bytes.Clone(b)
	c[len(c)/2] ^= 1
	return c
}

func download(ctx context.Context, c *client.Client, path string) ([]byte, error) {
	var b bytes.Buffer
	if err := c.Download(ctx, path, &b); err != nil {
		return nil, err
	}
	if b.Len() == 0 {
		return nil, fmt.Errorf("%s: %w", path, errNothing)
	}
	return b.Bytes(), nil
}

func (s *story) keep(context.Context) (string, error) {
	if s.o.Keep == "" {
		return "none asked for (--keep DIR)", nil
	}
	if err := os.MkdirAll(s.o.Keep, 0o700); err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{
		"audit.jsonl": s.kept.jsonl, "audit.csv": s.kept.csv, "audit.pub": []byte(s.kept.keys), "baa.bundle": s.kept.bundle,
		"isolation.json": s.kept.isolation, "isolation.pub": []byte(s.o.IsolationKey),
	} {
		if err := os.WriteFile(filepath.Join(s.o.Keep, name), b, 0o600); err != nil {
			return "", err
		}
	}
	return "audit.jsonl, audit.csv, audit.pub, baa.bundle, isolation.json, isolation.pub in " + s.o.Keep, nil
}
