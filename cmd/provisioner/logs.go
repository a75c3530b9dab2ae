package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/tenants"
)

// tenantLogs lists the audit logs of the cell's tenants.
func tenantLogs(control *pgxpool.Pool, cell string) func(context.Context) ([]audit.Log, error) {
	q := store.New(control)
	return func(ctx context.Context) ([]audit.Log, error) {
		ids, err := q.ProvisionedTenants(ctx, store.ProvisionedTenantsParams{CellID: &cell, Step: provisioning.StepTables})
		if err != nil {
			return nil, fmt.Errorf("listing the cell's tenants: %w", err)
		}
		logs := make([]audit.Log, len(ids))
		for i, id := range ids {
			logs[i] = audit.TenantLog(id, tenants.SchemaName(id))
		}
		return logs, nil
	}
}

func controlLog(context.Context) ([]audit.Log, error) { return []audit.Log{audit.ControlLog()}, nil }

// objectAnchor keeps heads in the object store: one object a size, never replaced,
// and one that names the largest.
type objectAnchor struct{ objects blob.Store }

type anchored struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   []byte `json:"root"`
	Note   string `json:"note"`
}

// maxAnchor is more than any signed head takes, in bytes.
const maxAnchor = 64 << 10

func anchorPrefix(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return "anchors/" + hex.EncodeToString(sum[:16]) + "/"
}

// Last implements sealer.Anchor.
func (a objectAnchor) Last(ctx context.Context, origin string) (*sealer.Anchored, error) {
	return a.read(ctx, anchorPrefix(origin)+"latest")
}

// Put implements sealer.Anchor. The object of a size is made first, so that a fork
// is found also when the process ends between the two.
func (a objectAnchor) Put(ctx context.Context, head sealer.Anchored) error {
	body, err := json.Marshal(anchored{Origin: head.Origin, Size: head.Size, Root: head.Root[:], Note: head.Note})
	if err != nil {
		return fmt.Errorf("encoding an anchor: %w", err)
	}
	prefix := anchorPrefix(head.Origin)
	key := fmt.Sprintf("%s%020d", prefix, head.Size)
	err = a.objects.Put(ctx, key, bytes.NewReader(body), int64(len(body)))
	if errors.Is(err, blob.ErrExists) {
		there, err := a.read(ctx, key)
		if err != nil {
			return err
		}
		if there == nil || there.Root != head.Root {
			return fmt.Errorf("anchoring %s at %d: %w", head.Origin, head.Size, sealer.ErrFork)
		}
	} else if err != nil {
		return fmt.Errorf("anchoring %s: %w", head.Origin, err)
	}
	latest, err := a.Last(ctx, head.Origin)
	if err != nil || (latest != nil && latest.Size >= head.Size) {
		return err
	}
	if err := a.objects.Replace(ctx, prefix+"latest", bytes.NewReader(body), int64(len(body))); err != nil {
		return fmt.Errorf("anchoring %s: %w", head.Origin, err)
	}
	return nil
}

func (a objectAnchor) read(ctx context.Context, key string) (*sealer.Anchored, error) {
	r, err := a.objects.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading an anchor: %w", err)
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, maxAnchor))
	if err != nil {
		return nil, fmt.Errorf("reading an anchor: %w", err)
	}
	var head anchored
	if err := json.Unmarshal(body, &head); err != nil || len(head.Root) != tlog.HashSize {
		return nil, errors.New("an anchor in the object store cannot be read")
	}
	out := &sealer.Anchored{Origin: head.Origin, Size: head.Size, Note: head.Note}
	copy(out.Root[:], head.Root)
	return out, nil
}
