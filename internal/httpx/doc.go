// Package httpx is how every process of the platform speaks HTTP: the one place
// that makes a Fiber app, answers errors, limits bodies, sets security headers,
// recognises peers by their certificate and declares an API through huma.
//
// It trusts a header about the client only from a peer whose certificate names
// it as trusted; it removes the same headers from everybody else. It never
// repeats a value of a request in an answer or a log line: the value may be PHI.
// A guard on paths here keeps paths unambiguous; it authorizes nothing.
package httpx
