package kmstest

import (
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

func rotation(t *testing.T, h Handles) {
	key := newKey(t, h)
	id, old := newDataKey(t, h, key)
	staleID, stale := newDataKey(t, h, key)
	version, err := h.Rewrapper.Rotate(within(t), key)
	must(t, "rotate", err)
	if version != 2 {
		t.Fatalf("rotated to version %d", version)
	}
	opens(t, h.Worker, key, id, old)
	_, fresh := newDataKey(t, h, key)
	for wrapped, want := range map[string]int{string(old.Wrapped): 1, string(fresh.Wrapped): 2} {
		if got, err := h.Rewrapper.WrapVersion([]byte(wrapped)); err != nil || got != want {
			t.Fatalf("a wrap of version %d is read as %d: %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "x", "\x01\x00\x00\x00\x00rest", "vault:v0:rest"} {
		_, err := h.Rewrapper.WrapVersion([]byte(bad))
		refused(t, "the version of what is no wrap", err, driver.ErrIntegrity)
	}
	if fresh.Version != 2 {
		t.Fatalf("wraps with version %d after rotation", fresh.Version)
	}
	wrapped, version, err := h.Rewrapper.Rewrap(within(t), key, purpose, id, old.Wrapped)
	must(t, "rewrap", err)
	if version != 2 || string(wrapped) == string(old.Wrapped) {
		t.Fatalf("rewrapped to version %d", version)
	}
	refused(t, "retiring the newest", h.Rewrapper.Retire(within(t), key, 3), driver.ErrInvalid)
	must(t, "retire", h.Rewrapper.Retire(within(t), key, 2))
	_, err = h.Worker.Unwrap(within(t), key, purpose, staleID, stale.Wrapped)
	refused(t, "a wrap of a retired version", err, driver.ErrVersionRetired)
	_, _, err = h.Rewrapper.Rewrap(within(t), key, purpose, staleID, stale.Wrapped)
	refused(t, "rewrapping from a retired version", err, driver.ErrVersionRetired)
	opens(t, h.Worker, key, id, driver.DataKey{Plain: old.Plain, Wrapped: wrapped})
	must(t, "retiring again, lower", h.Rewrapper.Retire(within(t), key, 1))
	_, err = h.Worker.Unwrap(within(t), key, purpose, staleID, stale.Wrapped)
	refused(t, "a wrap of a retired version", err, driver.ErrVersionRetired)
	status(t, h, key, driver.Status{State: driver.StateAlive, Version: 2, MinVersion: 2})
}
