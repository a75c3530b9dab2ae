// Package kmstest is the conformance suite of key management drivers: what
// driver.KMS promises, called on a real one. A driver's test opens the handles
// and runs the suite.
//
// It owns no state, trusts nothing of the driver, and is imported by tests only.
package kmstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Handles are one key service as its users hold it, each a process of its own
// with the rights of its role. A driver without roles gives one kind of handle.
type Handles struct {
	Provisioner, SecondProvisioner driver.KMS
	Worker, SecondWorker           driver.KMS
	Rewrapper, Shredder            driver.KMS
}

const purpose = "field"

// Run runs the suite. Every test uses keys of its own, so that one service serves all.
func Run(t *testing.T, h Handles) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Handles)
	}{
		{"a data key comes back at another worker", roundTrip},
		{"a wrap opens only in its context", contextBinds},
		{"a changed wrap is refused", changedWrap},
		{"an absent key serves nothing", absent},
		{"ensure is idempotent", ensureTwice},
		{"rotation, rewrap and retirement", rotation},
		{"a disabled key is refused at once and others serve", disabled},
		{"many gates at once all hold", manyGates},
		{"a shredded key stays shredded", shredded},
		{"shredding wins over disabling", disabledThenShredded},
		{"an absent key can be shredded beforehand", shreddedBeforehand},
		{"wrong names never reach the service", wrongNames},
		{"an ended context ends the call", endedContext},
		{"a data key does not print", silent},
		{"every key that is there is listed", names},
		{"health", healthy},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, h) })
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, doing string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

func refused(t *testing.T, doing string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", doing, err, want)
	}
}

// newKey ensures a key of a fresh tenant.
func newKey(t *testing.T, h Handles) string {
	t.Helper()
	key := driver.KeyName(tenants.NewID())
	must(t, "ensuring a key", h.Provisioner.Ensure(within(t), key))
	return key
}

func newDataKey(t *testing.T, h Handles, key string) (tenants.ID, driver.DataKey) {
	t.Helper()
	id := tenants.NewID()
	dk, err := h.Worker.NewDataKey(within(t), key, purpose, id)
	must(t, "making a data key", err)
	if len(dk.Plain) != driver.DataKeySize || len(dk.Wrapped) == 0 || dk.Version < 1 {
		t.Fatalf("a data key of %d bytes, %d wrapped, version %d", len(dk.Plain), len(dk.Wrapped), dk.Version)
	}
	if strings.Contains(string(dk.Wrapped), string(dk.Plain)) {
		t.Fatal("the wrap holds the plain key")
	}
	return id, dk
}

func opens(t *testing.T, k driver.KMS, key string, id tenants.ID, dk driver.DataKey) {
	t.Helper()
	plain, err := k.Unwrap(within(t), key, purpose, id, dk.Wrapped)
	must(t, "unwrapping", err)
	if string(plain) != string(dk.Plain) {
		t.Fatal("another key came back")
	}
}

func roundTrip(t *testing.T, h Handles) {
	key := newKey(t, h)
	id, dk := newDataKey(t, h, key)
	opens(t, h.SecondWorker, key, id, dk)
	_, again := newDataKey(t, h, key)
	if string(again.Plain) == string(dk.Plain) {
		t.Fatal("two data keys are equal")
	}
}

func contextBinds(t *testing.T, h Handles) {
	key, other := newKey(t, h), newKey(t, h)
	id, dk := newDataKey(t, h, key)
	_, err := h.Worker.Unwrap(within(t), other, purpose, id, dk.Wrapped)
	refused(t, "another tenant's key", err, driver.ErrIntegrity)
	_, err = h.Worker.Unwrap(within(t), key, "blind", id, dk.Wrapped)
	refused(t, "another purpose", err, driver.ErrIntegrity)
	_, err = h.Worker.Unwrap(within(t), key, purpose, tenants.NewID(), dk.Wrapped)
	refused(t, "another id", err, driver.ErrIntegrity)
	_, _, err = h.Rewrapper.Rewrap(within(t), key, "blind", id, dk.Wrapped)
	refused(t, "rewrap for another purpose", err, driver.ErrIntegrity)
	opens(t, h.Worker, key, id, dk)
}

func changedWrap(t *testing.T, h Handles) {
	key := newKey(t, h)
	id, dk := newDataKey(t, h, key)
	for i := range dk.Wrapped {
		changed := []byte(string(dk.Wrapped))
		changed[i] ^= 1
		plain, err := h.Worker.Unwrap(within(t), key, purpose, id, changed)
		if err == nil || plain != nil {
			t.Fatalf("byte %d changed, and the wrap still opens", i)
		}
		if errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrAuth) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for _, short := range []int{0, 1, 5, len(dk.Wrapped) / 2, len(dk.Wrapped) - 1} {
		_, err := h.Worker.Unwrap(within(t), key, purpose, id, dk.Wrapped[:short])
		refused(t, fmt.Sprintf("cut to %d bytes", short), err, driver.ErrIntegrity)
	}
	opens(t, h.Worker, key, id, dk)
}

func absent(t *testing.T, h Handles) {
	lender := newKey(t, h)
	id, dk := newDataKey(t, h, lender)
	key := driver.KeyName(tenants.NewID())
	_, err := h.Worker.NewDataKey(within(t), key, purpose, id)
	refused(t, "new data key", err, driver.ErrKeyGone)
	_, err = h.Worker.Unwrap(within(t), key, purpose, id, dk.Wrapped)
	refused(t, "unwrap", err, driver.ErrKeyGone)
	_, _, err = h.Rewrapper.Rewrap(within(t), key, purpose, id, dk.Wrapped)
	refused(t, "rewrap", err, driver.ErrKeyGone)
	_, err = h.Rewrapper.Rotate(within(t), key)
	refused(t, "rotate", err, driver.ErrKeyGone)
	refused(t, "retire", h.Rewrapper.Retire(within(t), key, 1), driver.ErrKeyGone)
	refused(t, "disable", h.Provisioner.Disable(within(t), key), driver.ErrKeyGone)
	refused(t, "enable", h.Provisioner.Enable(within(t), key), driver.ErrKeyGone)
	status(t, h, key, driver.Status{State: driver.StateAbsent})
}

func status(t *testing.T, h Handles, key string, want driver.Status) {
	t.Helper()
	for _, k := range []driver.KMS{h.Provisioner, h.Worker, h.Rewrapper, h.Shredder} {
		got, err := k.Status(within(t), key)
		must(t, "status", err)
		if got != want {
			t.Fatalf("status is %+v, want %+v", got, want)
		}
	}
}

// names wants alive and disabled keys listed, absent and shredded ones not.
func names(t *testing.T, h Handles) {
	alive, disabled, gone := newKey(t, h), newKey(t, h), newKey(t, h)
	must(t, "disable", h.Provisioner.Disable(within(t), disabled))
	must(t, "shred", h.Shredder.Shred(within(t), gone))
	all, err := h.Provisioner.Names(within(t))
	must(t, "names", err)
	for key, want := range map[string]bool{alive: true, disabled: true, gone: false, driver.KeyName(tenants.NewID()): false} {
		if slices.Contains(all, key) != want {
			t.Errorf("key listed: %v, want %v", !want, want)
		}
	}
	if !slices.IsSorted(all) {
		t.Error("the names are in no order")
	}
}

func ensureTwice(t *testing.T, h Handles) {
	key := driver.KeyName(tenants.NewID())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			k := h.Provisioner
			if i%2 == 0 {
				k = h.SecondProvisioner
			}
			if err := k.Ensure(within(t), key); err != nil {
				t.Errorf("ensure: %v", err)
			}
		})
	}
	all.Wait()
	id, dk := newDataKey(t, h, key)
	must(t, "ensure again", h.Provisioner.Ensure(within(t), key))
	opens(t, h.Worker, key, id, dk)
	status(t, h, key, driver.Status{State: driver.StateAlive, Version: 1, MinVersion: 1})
}

func disabled(t *testing.T, h Handles) {
	key, other := newKey(t, h), newKey(t, h)
	id, dk := newDataKey(t, h, key)
	otherID, otherKey := newDataKey(t, h, other)
	opens(t, h.SecondWorker, key, id, dk) // both workers are warm
	for round := range 2 {
		must(t, "disable", h.Provisioner.Disable(within(t), key))
		must(t, "disable again", h.SecondProvisioner.Disable(within(t), key))
		for _, worker := range []driver.KMS{h.Worker, h.SecondWorker} {
			_, err := worker.Unwrap(within(t), key, purpose, id, dk.Wrapped)
			refused(t, "unwrap", err, driver.ErrKeyDisabled)
			_, err = worker.NewDataKey(within(t), key, purpose, tenants.NewID())
			refused(t, "new data key", err, driver.ErrKeyDisabled)
			opens(t, worker, other, otherID, otherKey)
		}
		_, _, err := h.Rewrapper.Rewrap(within(t), key, purpose, id, dk.Wrapped)
		must(t, "rewrap while disabled", err)
		must(t, "ensure while disabled", h.Provisioner.Ensure(within(t), key))
		status(t, h, key, driver.Status{State: driver.StateDisabled, Version: 1, MinVersion: 1})
		must(t, fmt.Sprintf("enable, round %d", round), h.SecondProvisioner.Enable(within(t), key))
		must(t, "enable again", h.Provisioner.Enable(within(t), key))
		opens(t, h.Worker, key, id, dk)
		opens(t, h.SecondWorker, key, id, dk)
	}
	status(t, h, key, driver.Status{State: driver.StateAlive, Version: 1, MinVersion: 1})
}

// manyGates closes and opens keys from two processes at once: none may be lost.
func manyGates(t *testing.T, h Handles) {
	const n = 12
	keys, ids, wraps := make([]string, n), make([]tenants.ID, n), make([]driver.DataKey, n)
	for i := range n {
		keys[i] = newKey(t, h)
		ids[i], wraps[i] = newDataKey(t, h, keys[i])
		if i%2 == 0 {
			must(t, "disable", h.Provisioner.Disable(within(t), keys[i]))
		}
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			k, change := h.Provisioner, "disable"
			if i%3 == 0 {
				k = h.SecondProvisioner
			}
			var err error
			if i%2 == 0 {
				change, err = "enable", k.Enable(within(t), keys[i])
			} else {
				err = k.Disable(within(t), keys[i])
			}
			if err != nil {
				t.Errorf("%s: %v", change, err)
			}
		})
	}
	all.Wait()
	for i := range n {
		if i%2 == 0 {
			opens(t, h.Worker, keys[i], ids[i], wraps[i])
			continue
		}
		_, err := h.Worker.Unwrap(within(t), keys[i], purpose, ids[i], wraps[i].Wrapped)
		refused(t, "a closed key", err, driver.ErrKeyDisabled)
	}
}

func gone(t *testing.T, h Handles, key string, id tenants.ID, dk driver.DataKey) {
	t.Helper()
	for _, worker := range []driver.KMS{h.Worker, h.SecondWorker} {
		_, err := worker.Unwrap(within(t), key, purpose, id, dk.Wrapped)
		refused(t, "unwrap", err, driver.ErrKeyGone)
		_, err = worker.NewDataKey(within(t), key, purpose, tenants.NewID())
		refused(t, "new data key", err, driver.ErrKeyGone)
	}
	refused(t, "ensure", h.Provisioner.Ensure(within(t), key), driver.ErrKeyGone)
	refused(t, "enable", h.Provisioner.Enable(within(t), key), driver.ErrKeyGone)
	_, err := h.Rewrapper.Rotate(within(t), key)
	refused(t, "rotate", err, driver.ErrKeyGone)
	must(t, "shred again", h.Shredder.Shred(within(t), key))
	status(t, h, key, driver.Status{State: driver.StateShredded})
}

func shredded(t *testing.T, h Handles) {
	key, other := newKey(t, h), newKey(t, h)
	id, dk := newDataKey(t, h, key)
	otherID, otherKey := newDataKey(t, h, other)
	must(t, "shred", h.Shredder.Shred(within(t), key))
	gone(t, h, key, id, dk)
	opens(t, h.Worker, other, otherID, otherKey)
}

func disabledThenShredded(t *testing.T, h Handles) {
	key := newKey(t, h)
	id, dk := newDataKey(t, h, key)
	must(t, "disable", h.Provisioner.Disable(within(t), key))
	must(t, "shred", h.Shredder.Shred(within(t), key))
	gone(t, h, key, id, dk)
}

func shreddedBeforehand(t *testing.T, h Handles) {
	key := driver.KeyName(tenants.NewID())
	must(t, "shred", h.Shredder.Shred(within(t), key))
	refused(t, "ensure", h.Provisioner.Ensure(within(t), key), driver.ErrKeyGone)
}

func wrongNames(t *testing.T, h Handles) {
	for _, key := range []string{"", "../x", "a/b", "A", "a|b", strings.Repeat("a", 65)} {
		refused(t, "ensure", h.Provisioner.Ensure(within(t), key), driver.ErrInvalid)
		refused(t, "shred", h.Shredder.Shred(within(t), key), driver.ErrInvalid)
		refused(t, "disable", h.Provisioner.Disable(within(t), key), driver.ErrInvalid)
		_, err := h.Worker.NewDataKey(within(t), key, purpose, tenants.NewID())
		refused(t, "new data key", err, driver.ErrInvalid)
		_, err = h.Worker.Status(within(t), key)
		refused(t, "status", err, driver.ErrInvalid)
	}
	key := newKey(t, h)
	_, err := h.Worker.NewDataKey(within(t), key, "a|b", tenants.NewID())
	refused(t, "a purpose with a bar", err, driver.ErrInvalid)
	_, err = h.Worker.NewDataKey(within(t), key, purpose, tenants.NilID)
	refused(t, "no id", err, driver.ErrInvalid)
}

func endedContext(t *testing.T, h Handles) {
	key := newKey(t, h)
	id, dk := newDataKey(t, h, key)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_, err := h.Worker.Unwrap(ctx, key, purpose, id, dk.Wrapped)
	refused(t, "unwrap", err, driver.ErrUnavailable)
	opens(t, h.Worker, key, id, dk)
}

func silent(t *testing.T, h Handles) {
	_, dk := newDataKey(t, h, newKey(t, h))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got, want := fmt.Sprintf(verb, dk), "DataKey{version 1}"; got != want {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func healthy(t *testing.T, h Handles) {
	for _, k := range []driver.KMS{h.Provisioner, h.Worker, h.Rewrapper, h.Shredder} {
		must(t, "health", k.Health(within(t)))
	}
}
