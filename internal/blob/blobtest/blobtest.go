// Package blobtest is the conformance suite of object store drivers: what
// blob.Store promises, called on a real one.
//
// It owns the objects under prefixes of its own, trusts nothing of the driver,
// and is imported by tests only.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caresphere/caresphere/internal/blob"
)

// Run runs the suite on the store.
func Run(t *testing.T, store blob.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, blob.Store)
	}{
		{"what was put comes back", roundTrip},
		{"a taken key is not overwritten", noOverwrite},
		{"of many who put one key one wins", race},
		{"replace replaces", replaces},
		{"another size is refused and leaves nothing", sizes},
		{"an upload that breaks leaves nothing", broken},
		{"an ended context ends the call", endedContext},
		{"list is in order and within its prefix", list},
		{"a prefix can be ensured", prefixes},
		{"delete", deletes},
		{"wrong keys never reach the store", wrongKeys},
		{"large objects stream", large},
		{"health", func(t *testing.T, s blob.Store) { must(t, "health", s.Health(within(t))) }},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, store) })
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
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

// prefix is a place of the test's own.
func prefix() string { return "t" + rand.Text() + "/" }

func put(t *testing.T, s blob.Store, key, content string) {
	t.Helper()
	must(t, "put "+key, s.Put(within(t), key, strings.NewReader(content), int64(len(content))))
}

func content(t *testing.T, s blob.Store, key string) string {
	t.Helper()
	r, err := s.Get(within(t), key)
	must(t, "get "+key, err)
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	must(t, "reading "+key, err)
	return string(b)
}

func absent(t *testing.T, s blob.Store, key string) {
	t.Helper()
	r, err := s.Get(within(t), key)
	if err == nil {
		_, err = io.ReadAll(r)
		_ = r.Close()
	}
	refused(t, "get "+key, err, blob.ErrNotFound)
}

func keys(t *testing.T, objects iter.Seq2[blob.Object, error]) (all []string) {
	t.Helper()
	for o, err := range objects {
		must(t, "list", err)
		all = append(all, o.Key)
	}
	return all
}

func roundTrip(t *testing.T, s blob.Store) {
	p := prefix()
	for name, body := range map[string]string{"empty": "", "one": "x", "a/b/c/deep.pdf": "deep", "binary_1=.-": "\x00\xff\r\n" + strings.Repeat("z", 100_000)} {
		put(t, s, p+name, body)
		if got := content(t, s, p+name); got != body {
			t.Errorf("%s came back with %d bytes instead of %d", name, len(got), len(body))
		}
	}
	absent(t, s, p+"none")
	absent(t, s, p+"a/b")
	absent(t, s, p+"one/below")
}

func noOverwrite(t *testing.T, s blob.Store) {
	key := prefix() + "k"
	put(t, s, key, "first")
	refused(t, "put again", s.Put(within(t), key, strings.NewReader("second"), 6), blob.ErrExists)
	if got := content(t, s, key); got != "first" {
		t.Errorf("the object holds %q", got)
	}
}

func race(t *testing.T, s blob.Store) {
	key := prefix() + "k"
	var all sync.WaitGroup
	var mu sync.Mutex
	var winners []string
	for i := range 8 {
		body := strings.Repeat(fmt.Sprint(i), 5000)
		all.Go(func() {
			err := s.Put(within(t), key, strings.NewReader(body), int64(len(body)))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners = append(winners, body)
			case !errors.Is(err, blob.ErrExists):
				t.Errorf("a loser: %v", err)
			}
		})
	}
	all.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d of 8 won", len(winners))
	}
	if content(t, s, key) != winners[0] {
		t.Error("the object is not the winner's")
	}
}

func replaces(t *testing.T, s blob.Store) {
	key := prefix() + "k"
	must(t, "replace nothing", s.Replace(within(t), key, strings.NewReader("first"), 5))
	old, err := s.Get(within(t), key)
	must(t, "get", err)
	must(t, "replace", s.Replace(within(t), key, strings.NewReader("second"), 6))
	if got := content(t, s, key); got != "second" {
		t.Errorf("the object holds %q", got)
	}
	if b, err := io.ReadAll(old); err == nil && string(b) != "first" {
		t.Errorf("a reader that was open saw %q", b)
	}
	_ = old.Close()
}

func sizes(t *testing.T, s blob.Store) {
	for name, c := range map[string]struct {
		body string
		size int64
	}{
		"one more": {"abc", 2}, "one less": {"abc", 4}, "not empty": {"a", 0}, "empty": {"", 1}, "negative": {"a", -1},
		"far more": {strings.Repeat("x", 300_000), 100_000}, "far less": {strings.Repeat("x", 100_000), 300_000},
	} {
		key := prefix() + "k"
		refused(t, name, s.Put(within(t), key, strings.NewReader(c.body), c.size), blob.ErrSize)
		absent(t, s, key)
		// A reader that cannot seek, one byte at a time.
		refused(t, name+" as a stream", s.Put(within(t), key, iotest.OneByteReader(strings.NewReader(c.body)), c.size), blob.ErrSize)
		absent(t, s, key)
		put(t, s, key, "good")
		refused(t, name+" over another", s.Replace(within(t), key, strings.NewReader(c.body), c.size), blob.ErrSize)
		if got := content(t, s, key); got != "good" {
			t.Errorf("%s: the old object holds %q", name, got)
		}
	}
}

var errSource = errors.New("the source broke")

func broken(t *testing.T, s blob.Store) {
	p := prefix()
	source := io.MultiReader(strings.NewReader(strings.Repeat("x", 200_000)), iotest.ErrReader(errSource))
	refused(t, "put", s.Put(within(t), p+"k", source, 400_000), errSource)
	absent(t, s, p+"k")
	if left := keys(t, s.List(within(t), p)); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	put(t, s, p+"k", "whole")
}

// slow gives bytes for ever and ends the context after some.
type slow struct {
	cancel context.CancelFunc
	left   int
}

func (r *slow) Read(p []byte) (int, error) {
	if r.left--; r.left == 0 {
		r.cancel()
	}
	clear(p)
	return len(p), nil
}

func endedContext(t *testing.T, s blob.Store) {
	p := prefix()
	put(t, s, p+"there", strings.Repeat("x", 1<<20))
	ctx, cancel := context.WithCancel(within(t))
	refused(t, "put", s.Put(ctx, p+"k", &slow{cancel, 10}, 1<<30), blob.ErrUnavailable)
	absent(t, s, p+"k")
	_, err := s.Get(ctx, p+"there")
	refused(t, "get", err, blob.ErrUnavailable)
	refused(t, "delete", s.Delete(ctx, p+"there"), blob.ErrUnavailable)
	refused(t, "ensure", s.EnsurePrefix(ctx, p), blob.ErrUnavailable)
	refused(t, "health", s.Health(ctx), blob.ErrUnavailable)
	for _, err := range s.List(ctx, p) {
		refused(t, "list", err, blob.ErrUnavailable)
	}
	reading, stop := context.WithCancel(within(t))
	r, err := s.Get(reading, p+"there")
	must(t, "get", err)
	stop()
	_, err = io.ReadAll(r)
	refused(t, "reading on", err, blob.ErrUnavailable)
	_ = r.Close()
	cancel()
	if len(content(t, s, p+"there")) != 1<<20 {
		t.Error("the object changed")
	}
}

func list(t *testing.T, s blob.Store) {
	p := prefix()
	want := []string{p + "a-b/x", p + "a.b", p + "a/1", p + "a/2", p + "a/b/c", p + "ab", p + "b"}
	for i := range want {
		put(t, s, want[(i*3)%len(want)], "content")
	}
	put(t, s, strings.TrimSuffix(p, "/")+"x", "a neighbour whose name begins the same")
	if got := keys(t, s.List(within(t), p)); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := keys(t, s.List(within(t), p+"a/")); strings.Join(got, " ") != strings.Join(want[2:5], " ") {
		t.Errorf("under a/: %v", got)
	}
	if got := keys(t, s.List(within(t), p+"none/")); got != nil {
		t.Errorf("under nothing: %v", got)
	}
	whole := 0
	for o, err := range s.List(within(t), "") {
		must(t, "list all", err)
		if strings.HasPrefix(o.Key, p) {
			whole++
			if o.Size != int64(len("content")) || time.Since(o.ModifiedAt).Abs() > time.Hour {
				t.Errorf("%+v", o)
			}
		}
	}
	if whole != len(want) {
		t.Errorf("the whole list has %d of %d", whole, len(want))
	}
	for _, err := range s.List(within(t), p) {
		must(t, "list", err)
		break // ending early is allowed
	}
	for _, err := range s.List(within(t), "no-slash") {
		refused(t, "a prefix without its slash", err, blob.ErrKey)
	}
}

func prefixes(t *testing.T, s blob.Store) {
	p := prefix()
	absent(t, s, p+blob.Marker)
	must(t, "ensure", s.EnsurePrefix(within(t), p))
	must(t, "ensure again", s.EnsurePrefix(within(t), p))
	if got := keys(t, s.List(within(t), p)); len(got) != 1 || got[0] != p+blob.Marker {
		t.Errorf("the prefix holds %v", got)
	}
	for _, bad := range []string{"", "/", "a", "../a/", "/a/", "a//"} {
		refused(t, "prefix "+bad, s.EnsurePrefix(within(t), bad), blob.ErrKey)
	}
}

func deletes(t *testing.T, s blob.Store) {
	p := prefix()
	put(t, s, p+"a/k", "x")
	put(t, s, p+"a/l", "y")
	must(t, "delete", s.Delete(within(t), p+"a/k"))
	absent(t, s, p+"a/k")
	must(t, "delete again", s.Delete(within(t), p+"a/k"))
	must(t, "delete what has objects below", s.Delete(within(t), p+"a"))
	if content(t, s, p+"a/l") != "y" {
		t.Error("a neighbour changed")
	}
	put(t, s, p+"a/k", "again")
}

func wrongKeys(t *testing.T, s blob.Store) {
	for _, key := range []string{
		"", "/", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a/.hidden", "a\\b", "a\x00b", "a b", "é", "-a", "a?b", "a%2fb", "C:x",
		strings.Repeat("a", 513), strings.Repeat("a", 201),
	} {
		refused(t, "put "+key, s.Put(within(t), key, strings.NewReader("x"), 1), blob.ErrKey)
		refused(t, "replace "+key, s.Replace(within(t), key, strings.NewReader("x"), 1), blob.ErrKey)
		_, err := s.Get(within(t), key)
		refused(t, "get "+key, err, blob.ErrKey)
		refused(t, "delete "+key, s.Delete(within(t), key), blob.ErrKey)
	}
}

// pattern gives n bytes that can be told apart by their place.
type pattern struct{ at, n int64 }

func (r *pattern) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.n-r.at)]
	for i := range p {
		p[i] = byte((r.at + int64(i)) * 31 >> 3)
	}
	r.at += int64(len(p))
	return len(p), nil
}

func large(t *testing.T, s blob.Store) {
	const size = 40 << 20
	key := prefix() + "k"
	must(t, "put", s.Put(within(t), key, &pattern{n: size}, size))
	r, err := s.Get(within(t), key)
	must(t, "get", err)
	defer func() { _ = r.Close() }()
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	expected := &pattern{n: size}
	for at := 0; at < size; at += len(got) {
		_, err := io.ReadFull(r, got)
		must(t, "reading", err)
		_, err = io.ReadFull(expected, want)
		must(t, "pattern", err)
		if !bytes.Equal(got, want) {
			t.Fatalf("the bytes from %d on differ", at)
		}
	}
	if n, err := r.Read(got); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
}
