package blob

import (
	"context"
	"io"
	"iter"
	"strings"
)

// Under returns the part of a store below a prefix, as the whole of a store: no
// key of it names an object outside. What handles one tenant's objects is given
// this and not the store.
func Under(s Store, prefix string) (Store, error) {
	if err := CheckPrefix(prefix); err != nil {
		return nil, err
	}
	return under{s, prefix}, nil
}

type under struct {
	Store
	prefix string
}

// key is where an object of this part lies. It is checked before it is joined:
// afterwards a key that climbs would look like any other.
func (u under) key(key string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	return u.prefix + key, nil
}

func (u under) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	at, err := u.key(key)
	if err != nil {
		return err
	}
	return u.Store.Put(ctx, at, r, size)
}

func (u under) Replace(ctx context.Context, key string, r io.Reader, size int64) error {
	at, err := u.key(key)
	if err != nil {
		return err
	}
	return u.Store.Replace(ctx, at, r, size)
}

func (u under) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	at, err := u.key(key)
	if err != nil {
		return nil, err
	}
	return u.Store.Get(ctx, at)
}

func (u under) Delete(ctx context.Context, key string) error {
	at, err := u.key(key)
	if err != nil {
		return err
	}
	return u.Store.Delete(ctx, at)
}

func (u under) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if prefix != "" {
			if err := CheckPrefix(prefix); err != nil {
				yield(Object{}, err)
				return
			}
		}
		for o, err := range u.Store.List(ctx, u.prefix+prefix) {
			o.Key = strings.TrimPrefix(o.Key, u.prefix)
			if !yield(o, err) {
				return
			}
		}
	}
}

func (u under) EnsurePrefix(ctx context.Context, prefix string) error {
	if err := CheckPrefix(prefix); err != nil {
		return err
	}
	return u.Store.EnsurePrefix(ctx, u.prefix+prefix)
}
