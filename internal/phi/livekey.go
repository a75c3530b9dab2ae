package phi

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/caresphere/caresphere/tenants"
)

// liveKey is an unwrapped data key. It counts its users: the cache is one of
// them, and the last to let go zeroes it, so that an eviction never pulls a key
// from under a call that is using it.
type liveKey struct {
	id   tenants.ID
	aead cipher.AEAD // nil for a blind key
	raw  []byte      // only for a blind key
	refs atomic.Int64
	// renew is when whoever uses it has it loaded anew.
	renew due
}

// newLiveKey takes over plain and zeroes it when it is not needed any more. The
// caller holds the first reference.
func newLiveKey(id tenants.ID, purpose string, plain []byte) (*liveKey, error) {
	k := &liveKey{id: id}
	k.refs.Store(1)
	if purpose == PurposeBlind {
		k.raw = plain
		return k, nil
	}
	defer clear(plain)
	block, err := aes.NewCipher(plain)
	if err != nil {
		return nil, fmt.Errorf("phi: data key: %w", err)
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	wipe(block)
	if err != nil {
		return nil, fmt.Errorf("phi: data key: %w", err)
	}
	return k, nil
}

// acquire adds a user; false when the key is zeroed already.
func (k *liveKey) acquire() bool {
	for {
		n := k.refs.Load()
		if n <= 0 {
			return false
		}
		if k.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release takes a user away; the last one zeroes the key.
func (k *liveKey) release() {
	if k.refs.Add(-1) != 0 {
		return
	}
	clear(k.raw)
	if k.aead != nil {
		wipe(k.aead)
	}
}

// wipe zeroes the words of an expanded key. The standard library keeps the key
// schedule in unexported fields and offers no way to destroy it, so this walks
// to them by reflection; the test that looks for the key in memory afterwards
// says when a new Go release lays it out differently.
func wipe(cipher any) { wipeValue(reflect.ValueOf(cipher), 0) }

func wipeValue(v reflect.Value, depth int) {
	if depth > 8 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			wipeValue(v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wipeValue(v.Field(i), depth+1)
		}
	case reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			if v.CanAddr() {
				// #nosec G103 -- zeroing in place is the purpose; the bounds are the array's own.
				clear(unsafe.Slice((*byte)(unsafe.Pointer(v.UnsafeAddr())), v.Type().Size()))
			}
		}
	}
}
