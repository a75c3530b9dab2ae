package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// Ensure implements driver.KMS for the provisioner. An existing key must be of
// the kind that we make: derived, and never to be exported or deleted.
func (v *Vault) Ensure(ctx context.Context, key string) error {
	if err := driver.CheckKey(key); err != nil {
		return err
	}
	if err := v.refuseShredded(ctx, key); err != nil {
		return err
	}
	found, err := v.keyInfo(ctx, key)
	if err == nil && found == nil {
		if _, err = v.write(ctx, v.cell.key(key), map[string]any{"type": keyType, "derived": true}); err == nil {
			found, err = v.keyInfo(ctx, key)
		}
	}
	if err != nil {
		return err
	}
	if found == nil || found.Type != keyType || !found.Derived || found.Exportable || found.Backup || found.Deletable {
		return fmt.Errorf("vault: the key has other properties than it must: %w", driver.ErrIntegrity)
	}
	// A Shred that ran meanwhile wins.
	return v.refuseShredded(ctx, key)
}

const keyType = "aes256-gcm96"

type keyInfo struct {
	Type       string `json:"type"`
	Derived    bool   `json:"derived"`
	Exportable bool   `json:"exportable"`
	Backup     bool   `json:"allow_plaintext_backup"`
	Deletable  bool   `json:"deletion_allowed"`
	Latest     int    `json:"latest_version"`
	Min        int    `json:"min_decryption_version"`
}

// keyInfo returns what Vault tells of the key, nil when it does not exist.
func (v *Vault) keyInfo(ctx context.Context, key string) (*keyInfo, error) {
	s, err := v.read(ctx, v.cell.key(key))
	if err != nil || s == nil {
		return nil, err
	}
	raw, err := json.Marshal(s.Data)
	if err != nil {
		return nil, fmt.Errorf("vault: key: %w", err)
	}
	var info keyInfo
	if err := json.Unmarshal(raw, &info); err != nil {
		return nil, fmt.Errorf("vault: key: %w", err)
	}
	return &info, nil
}

func (v *Vault) isShredded(ctx context.Context, key string) (bool, error) {
	s, err := v.read(ctx, v.cell.shredded(key))
	return s != nil, err
}

func (v *Vault) refuseShredded(ctx context.Context, key string) error {
	gone, err := v.isShredded(ctx, key)
	if err == nil && gone {
		err = fmt.Errorf("vault: a shredded key is not made again: %w", driver.ErrKeyGone)
	}
	return err
}

// existing returns the key's properties, or ErrKeyGone.
func (v *Vault) existing(ctx context.Context, key string) (*keyInfo, error) {
	if err := driver.CheckKey(key); err != nil {
		return nil, err
	}
	info, err := v.keyInfo(ctx, key)
	if err == nil && info == nil {
		err = fmt.Errorf("vault: %w", driver.ErrKeyGone)
	}
	return info, err
}

// Rotate implements driver.KMS for the rewrapper. It is sent once: of a request whose
// answer is lost nobody knows whether it rotated, and a second would add a version
// more. Status tells.
func (v *Vault) Rotate(ctx context.Context, key string) (int, error) {
	if _, err := v.existing(ctx, key); err != nil {
		return 0, err
	}
	if _, err := v.session.once(ctx, func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().WriteWithContext(ctx, v.cell.key(key)+"/rotate", nil)
	}); err != nil {
		return 0, err
	}
	info, err := v.existing(ctx, key)
	if err != nil {
		return 0, err
	}
	return info.Latest, nil
}

// Retire implements driver.KMS for the rewrapper: raise the minimum, then trim,
// which destroys the older versions.
func (v *Vault) Retire(ctx context.Context, key string, minVersion int) error {
	info, err := v.existing(ctx, key)
	if err != nil {
		return err
	}
	if minVersion > info.Latest {
		return fmt.Errorf("vault: there is no version %d to keep: %w", minVersion, driver.ErrInvalid)
	}
	if minVersion < 1 || minVersion < info.Min {
		return nil
	}
	if _, err := v.write(ctx, v.cell.key(key)+"/config", map[string]any{
		"min_decryption_version": minVersion, "min_encryption_version": minVersion,
	}); err != nil {
		return err
	}
	_, err = v.write(ctx, v.cell.key(key)+"/trim", map[string]any{"min_available_version": minVersion})
	return err
}

// Shred implements driver.KMS for the shredder. The mark comes first: a crash in
// between leaves a key that Ensure will not revive, that stays closed if it was, and
// of which nobody is told that it is shredded. A second Shred goes on.
func (v *Vault) Shred(ctx context.Context, key string) error {
	if err := driver.CheckKey(key); err != nil {
		return err
	}
	gone, err := v.isShredded(ctx, key)
	if err == nil && !gone {
		_, err = v.write(ctx, v.cell.shredded(key), map[string]any{"at": time.Now().UTC().Format(time.RFC3339)})
		if errors.Is(err, driver.ErrAuth) {
			// The shredder may make a mark and not change one: somebody else made it.
			if again, lookErr := v.isShredded(ctx, key); lookErr == nil && again {
				err = nil
			}
		}
	}
	if err != nil {
		return err
	}
	info, err := v.keyInfo(ctx, key)
	if err != nil || info == nil {
		return err
	}
	if _, err := v.write(ctx, v.cell.key(key)+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		return err
	}
	return v.delete(ctx, v.cell.key(key))
}

// Status implements driver.KMS for every role.
func (v *Vault) Status(ctx context.Context, key string) (driver.Status, error) {
	if err := driver.CheckKey(key); err != nil {
		return driver.Status{}, err
	}
	marked, err := v.isShredded(ctx, key)
	if err != nil {
		return driver.Status{}, err
	}
	info, err := v.keyInfo(ctx, key)
	switch {
	case err != nil:
		return driver.Status{}, err
	case info == nil && marked:
		return driver.Status{State: driver.StateShredded}, nil
	case info == nil:
		return driver.Status{State: driver.StateAbsent}, nil
	}
	closed, err := v.read(ctx, v.cell.closed(key))
	if err != nil {
		return driver.Status{}, err
	}
	status := driver.Status{State: driver.StateAlive, Version: info.Latest, MinVersion: info.Min}
	if closed != nil {
		status.State = driver.StateDisabled
	}
	return status, nil
}

// Names implements driver.KMS for the provisioner. A key that is marked as shredded and
// still there is among them: whoever accounts for keys must come upon it.
func (v *Vault) Names(ctx context.Context) ([]string, error) {
	keys, err := v.list(ctx, v.cell.mount()+"/keys")
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	return keys, nil
}

// Disable implements driver.KMS for the provisioner. It closes also a key that is
// marked as shredded and still there.
func (v *Vault) Disable(ctx context.Context, key string) error {
	if _, err := v.existing(ctx, key); err != nil {
		return err
	}
	if _, err := v.write(ctx, v.cell.closed(key), map[string]any{"at": time.Now().UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	return v.syncClosed(ctx, partOf(key))
}

// Enable implements driver.KMS for the provisioner.
func (v *Vault) Enable(ctx context.Context, key string) error {
	if err := v.refuseGone(ctx, key); err != nil {
		return err
	}
	if err := v.delete(ctx, v.cell.closed(key)); err != nil {
		return err
	}
	return v.syncClosed(ctx, partOf(key))
}

// Reconcile implements driver.Reconciler for the provisioner: it makes the deny policies
// say again what the ledger of closed keys says, after a provisioner died in the middle
// of a change, after a restore of Vault, or after somebody edited a policy.
func (v *Vault) Reconcile(ctx context.Context) (mended int, err error) {
	closed, err := v.closedKeys(ctx)
	if err != nil {
		return 0, err
	}
	for _, part := range parts {
		have, err := v.policy(ctx, part)
		if err != nil {
			return mended, err
		}
		if have == closedText(string(v.cell), inPart(closed, part)) {
			continue
		}
		if err := v.syncClosed(ctx, part); err != nil {
			return mended, err
		}
		mended++
	}
	return mended, nil
}

func (v *Vault) refuseGone(ctx context.Context, key string) error {
	if _, err := v.existing(ctx, key); err != nil {
		return err
	}
	return v.refuseShredded(ctx, key)
}

// syncClosed makes one part's deny policy say what the ledger says. Vault has no
// compare-and-set for policies, so the ledger, one entry a key, is the truth, and
// the policy is written from it until a look afterwards finds both unchanged. Of
// two writers at once, the one whose stale text came last sees the newer ledger
// in that look, and writes again.
func (v *Vault) syncClosed(ctx context.Context, part string) error {
	for {
		keys, err := v.closedKeys(ctx)
		if err != nil {
			return err
		}
		want := closedText(string(v.cell), inPart(keys, part))
		have, err := v.policy(ctx, part)
		if err != nil {
			return err
		}
		if have != want {
			if _, err := v.write(ctx, v.cell.policyPath(part), map[string]any{"policy": want}); err != nil {
				return err
			}
		}
		after, err := v.closedKeys(ctx)
		if err != nil {
			return err
		}
		if have, err = v.policy(ctx, part); err != nil {
			return err
		}
		if have == want && slices.Equal(inPart(keys, part), inPart(after, part)) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("vault: closing keys: %w: %w", driver.ErrUnavailable, err)
		}
	}
}

// closedKeys returns the disabled keys in order, without those that are gone: they need
// no deny, and a policy's size is limited. A mark alone is not enough, for a Shred that
// died behind it left a key that would open.
func (v *Vault) closedKeys(ctx context.Context) ([]string, error) {
	closed, err := v.list(ctx, v.cell.ledger()+"/closed")
	if err != nil {
		return nil, err
	}
	marked, err := v.list(ctx, v.cell.ledger()+"/shredded")
	if err != nil {
		return nil, err
	}
	gone := intersection(marked, closed)
	if len(gone) > 0 {
		// Read behind the marks: what is marked and not there now is not made again.
		there, err := v.list(ctx, v.cell.mount()+"/keys")
		if err != nil {
			return nil, err
		}
		gone = without(gone, there)
	}
	return without(closed, gone), nil
}

// without returns the keys in order that are not among gone.
func without(keys, gone []string) []string {
	out := setOf(gone)
	keys = slices.DeleteFunc(keys, func(key string) bool { return out[key] })
	slices.Sort(keys)
	return keys
}

// intersection returns those of the keys that are also among others.
func intersection(keys, others []string) []string {
	in := setOf(others)
	return slices.DeleteFunc(keys, func(key string) bool { return !in[key] })
}

func setOf(keys []string) map[string]bool {
	set := make(map[string]bool, len(keys))
	for _, key := range keys {
		set[key] = true
	}
	return set
}

func (v *Vault) policy(ctx context.Context, part string) (string, error) {
	s, err := v.read(ctx, v.cell.policyPath(part))
	if err != nil || s == nil {
		return "", err
	}
	text, _ := s.Data["policy"].(string)
	return strings.TrimSpace(text) + "\n", nil
}
