package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// laneIdle is how long an unused lane is kept: below the servers' own 75 s.
	laneIdle = 60 * time.Second
	// lanesEach bounds the exchanges with one server whose answer is held; lanesKept the
	// unused lanes to it.
	lanesEach = 1024
	lanesKept = 256
	// streamsEach bounds the answers of one server that stream, and the bodies that
	// stream to it: those last as long as a client makes them.
	streamsEach = 1024
)

// errFull: there is no place for one more exchange with the server. It says nothing
// about the server.
var errFull = errors.New("too much is under way with the server")

// lanes keeps connections to servers for requests whose body is at hand. The request's
// own goroutine writes it and reads its answer. net/http's transport, which remains for
// bodies that stream, hands each exchange to two goroutines of the connection and
// back: docs/benchmarks.md has what that cost.
type lanes struct {
	dial dial
	// each and streams are how many places a destination has.
	each, streams int
	mu            sync.Mutex
	to            map[string]*destination
	closed        bool
	sweep         *time.Timer
}

// destination is one server: its unused lanes, the newest last, and a place for each
// exchange that may be under way: until its answer is held, while its answer streams, or
// with a body that streams.
type destination struct {
	idle                     []*lane
	places, answers, uploads places
}

// places are taken and given back.
type places chan struct{}

// take tells whether there was one left.
func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) give() { <-p }

func newLanes(dial dial, streams int) *lanes {
	return &lanes{dial: dial, each: lanesEach, streams: streams, to: map[string]*destination{}}
}

// exchange sends the request and returns the head of its answer. The answer's body
// gives the lane back at its end, and ends it when it is closed before. With repeat, a
// request that met a lane which its server had just given up is sent once more.
// A server that could not be reached is a dialError. When the request ends while it waits
// for a place, the error is errFull beside the cause.
func (l *lanes) exchange(req *http.Request, repeat bool) (*http.Response, error) {
	ctx, addr := req.Context(), address(req.URL)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	d := l.destination(addr)
	if !d.places.take() {
		select {
		case d.places <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errFull, context.Cause(ctx))
		}
	}
	n := l.take(d)
	if n != nil {
		resp, err := n.exchange(req)
		if err == nil {
			return resp, nil
		}
		if !repeat || !errors.Is(err, errStale) {
			d.places.give()
			return nil, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				d.places.give()
				return nil, fmt.Errorf("reading a held body again: %w", err)
			}
		}
	}
	conn, err := l.dial(ctx, "tcp", addr)
	if err != nil {
		d.places.give()
		return nil, err
	}
	resp, err := newLane(conn, d, func(n *lane, whole bool) { l.give(d, n, whole) }).exchange(req)
	if err != nil {
		d.places.give()
		return nil, err
	}
	return resp, nil
}

func (l *lanes) destination(addr string) *destination {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.to[addr]
	if d == nil {
		d = &destination{places: make(places, l.each), answers: make(places, l.streams), uploads: make(places, l.streams)}
		l.to[addr] = d
	}
	return d
}

// take returns the lane that was used last, if its server has neither closed it nor
// said anything that nobody asked for.
func (l *lanes) take(d *destination) *lane {
	for {
		l.mu.Lock()
		last := len(d.idle) - 1
		if last < 0 {
			l.mu.Unlock()
			return nil
		}
		n := d.idle[last]
		d.idle[last] = nil
		d.idle = d.idle[:last]
		l.mu.Unlock()
		if time.Since(n.since) < laneIdle && n.quiet() {
			n.used = true
			return n
		}
		n.end()
	}
}

// give takes a lane back after an exchange. One that is not known to be at the
// end of an answer is ended.
func (l *lanes) give(d *destination, n *lane, whole bool) {
	n.place.give()
	n.place = d.places // it takes its next exchange in one of these
	if !whole {
		n.end()
		return
	}
	n.since = time.Now()
	l.mu.Lock()
	keep := !l.closed && len(d.idle) < lanesKept
	if keep {
		d.idle = append(d.idle, n)
		if l.sweep == nil {
			l.sweep = time.AfterFunc(laneIdle/2, l.old)
		}
	}
	l.mu.Unlock()
	if !keep {
		n.end()
	}
}

// old ends lanes that were not used for long, and looks again later if others are left.
func (l *lanes) old() {
	var ended []*lane
	l.mu.Lock()
	left := 0
	for _, d := range l.to {
		k := 0 // the longest unused stand first
		for k < len(d.idle) && time.Since(d.idle[k].since) >= laneIdle {
			k++
		}
		ended = append(ended, d.idle[:k]...)
		d.idle = append([]*lane(nil), d.idle[k:]...)
		left += len(d.idle)
	}
	if left > 0 && !l.closed {
		l.sweep.Reset(laneIdle / 2)
	} else {
		l.sweep = nil
	}
	l.mu.Unlock()
	for _, n := range ended {
		n.end()
	}
}

// close ends the unused lanes, and those in use when they are given back.
func (l *lanes) close() {
	l.mu.Lock()
	l.closed = true
	var ended []*lane
	for _, d := range l.to {
		ended = append(ended, d.idle...)
		d.idle = nil
	}
	if l.sweep != nil {
		l.sweep.Stop()
	}
	l.mu.Unlock()
	for _, n := range ended {
		n.end()
	}
}

func address(u *url.URL) string {
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}
