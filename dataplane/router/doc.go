// Package router is the thin, stateless front door: it sends a tenant's requests
// to a healthy worker of the tenant's cell and everything else to the control plane.
//
// It owns forwarding and nothing of what is forwarded. It trusts the signed route
// table for where a tenant lives and mutual TLS for who answers; it trusts no
// header, cookie or token of a client and authorizes nothing: the worker does. It
// links no database driver, holds no session's secret, and never passes on a
// cut answer as a whole one.
package router
