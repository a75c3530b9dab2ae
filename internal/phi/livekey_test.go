package phi

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"reflect"
	"testing"
	"unsafe"

	"github.com/caresphere/caresphere/tenants"
)

// memory returns the bytes of every array and struct that the value reaches.
func memory(v reflect.Value, depth int) (all []byte) {
	if depth > 8 {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return memory(v.Elem(), depth+1)
		}
	case reflect.Struct:
		if v.CanAddr() {
			all = append(all, unsafe.Slice((*byte)(unsafe.Pointer(v.UnsafeAddr())), v.Type().Size())...)
		}
		for i := range v.NumField() {
			all = append(all, memory(v.Field(i), depth+1)...)
		}
	}
	return all
}

// holdsKey looks for the first half of the key as bytes and as the words that a
// key schedule begins with, in either byte order.
func holdsKey(mem, key []byte) bool {
	swapped := make([]byte, 16)
	for i := 0; i < 16; i += 4 {
		binary.LittleEndian.PutUint32(swapped[i:], binary.BigEndian.Uint32(key[i:]))
	}
	return bytes.Contains(mem, key[:16]) || bytes.Contains(mem, swapped)
}

// TestReleasedKeyIsZeroed looks into the cipher's memory: before the last release
// the key is there, which shows that the search works, afterwards it is not.
func TestReleasedKeyIsZeroed(t *testing.T) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	plain := bytes.Clone(secret)
	key, err := newLiveKey(tenants.NewID(), PurposeField, plain)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain, make([]byte, 32)) {
		t.Error("the plain key was not zeroed")
	}
	if !key.acquire() {
		t.Fatal("a fresh key cannot be acquired")
	}
	key.release()
	if !holdsKey(memory(reflect.ValueOf(key.aead), 0), secret) {
		t.Fatal("the search does not find the key while it is in use")
	}
	key.release()
	if holdsKey(memory(reflect.ValueOf(key.aead), 0), secret) {
		t.Error("the key is still in memory")
	}
	if key.acquire() {
		t.Error("a zeroed key can be acquired")
	}
	raw := bytes.Clone(secret)
	blind, err := newLiveKey(tenants.NewID(), PurposeBlind, raw)
	if err != nil {
		t.Fatal(err)
	}
	blind.release()
	if !bytes.Equal(raw, make([]byte, 32)) {
		t.Error("the blind key is still in memory")
	}
}

// TestARenewedKeyIsZeroed: the one that it takes the place of is let go at once.
func TestARenewedKeyIsZeroed(t *testing.T) {
	c, err := newKeyCache(nil, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ref := keyRef{tenants.NewID(), tenants.NewID(), PurposeBlind}
	var keys []*liveKey
	for range 2 {
		plain := make([]byte, 32)
		_, _ = rand.Read(plain)
		key, err := newLiveKey(ref.id, ref.purpose, plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.keep(ref, key, 0); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if keys[0].acquire() || !bytes.Equal(keys[0].raw, make([]byte, 32)) {
		t.Error("the key that was replaced is held still")
	}
	if !keys[1].acquire() || bytes.Equal(keys[1].raw, make([]byte, 32)) {
		t.Error("the key that replaced it is gone")
	}
}
