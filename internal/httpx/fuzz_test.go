package httpx

import (
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// FuzzCheckTarget: what is taken means the same to the reader behind us and to another
// one, has nothing left to resolve and nothing to decode a second time.
func FuzzCheckTarget(f *testing.F) {
	for _, target := range []string{
		"/", "/t/willow/v1/clients?limit=5", "/t/willow/v1/clients/a%20b", "/%C3%BC?q=%C3%BC", "/a+b?a=b+c", "/..a/b..", "/a;b?c;d",
		"//a", "/a/../b", "/a/%2e%2e/b", "/a%2Fb", "/a%5Cb", "/a\\b", "/%2525", "/%zz", "/%", "/%C3", "/a?b=%", "/a?%00", "/a#b", "a", "", "*", "http://x/",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if checkTarget(target) != nil {
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatalf("%q is taken, but not by net/url: %v", target, err)
		}
		var own fasthttp.URI
		if err := own.Parse([]byte("localhost"), []byte(target)); err != nil {
			t.Fatalf("%q is taken, but not by fasthttp: %v", target, err)
		}
		if string(own.Path()) != u.Path {
			t.Fatalf("%q is %q to fasthttp and %q to net/url", target, own.Path(), u.Path)
		}
		if string(own.QueryString()) != u.RawQuery || u.Host != "" {
			t.Fatalf("%q: the query is %q to fasthttp and %q to net/url, the host %q", target, own.QueryString(), u.RawQuery, u.Host)
		}
		if clean := path.Clean(u.Path); clean != u.Path && clean+"/" != u.Path {
			t.Fatalf("%q has something left to resolve: %q", target, u.Path)
		}
		if strings.ContainsAny(u.Path, "%\\\x00") || !utf8.ValidString(u.Path) {
			t.Fatalf("%q decodes to %q", target, u.Path)
		}
	})
}
