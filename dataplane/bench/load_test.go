package bench_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// contender is one way to do the work: a server and the requests that its clients
// send, each its own.
type contender struct {
	name string
	addr string
	tls  *tls.Config // nil for plain TCP
	// request returns the whole request of a client's nth call.
	request func(client, n int) []byte
	status  string
	// cpu, if given, returns the CPU time that its process has used.
	cpu func() time.Duration
}

// clientCounts are the loads that every figure is taken at.
var clientCounts = []int{1, 8, 32}

// slice is how long a contender runs before the next one does; CARESPHERE_BENCH_SLICE
// and CARESPHERE_BENCH_ROUNDS change both.
func slice() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("CARESPHERE_BENCH_SLICE")); err == nil {
		return d
	}
	return time.Second
}

func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("CARESPHERE_BENCH_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// compare runs the contenders in turns, and reports each one's rate and the
// first one's share of the others': the medians over the rounds.
func compare(b *testing.B, contenders ...contender) {
	b.Helper()
	for _, n := range clientCounts {
		b.Run(fmt.Sprintf("clients=%d", n), func(b *testing.B) {
			running := make([]*load, len(contenders))
			for i, c := range contenders {
				running[i] = dial(b, c, n)
				running[i].run(b, slice()/2)
			}
			rates := make([][]float64, len(contenders))
			cpus := make([][]float64, len(contenders))
			for round := range rounds() {
				for i := range contenders {
					k := (i + round) % len(contenders) // who goes first changes
					rate, cpu := running[k].run(b, slice())
					rates[k], cpus[k] = append(rates[k], rate), append(cpus[k], cpu)
				}
			}
			for b.Loop() {
			}
			b.ReportMetric(0, "ns/op")
			for i, c := range contenders {
				b.ReportMetric(median(rates[i]), c.name+"/s")
				if c.cpu != nil {
					b.ReportMetric(median(cpus[i]), "us_cpu_"+c.name)
				}
				if i > 0 {
					share := make([]float64, rounds())
					for r := range share {
						share[r] = rates[0][r] / rates[i][r]
						if c.cpu != nil {
							share[r] = cpus[0][r] / cpus[i][r]
						}
					}
					b.ReportMetric(median(share), "x_"+c.name)
				}
			}
			b.ReportMetric(running[0].p99(), "p99_ms")
		})
	}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// load is a contender with its clients' connections.
type load struct {
	contender
	conns []net.Conn
	read  []*bufio.Reader
	calls []int
	took  [][]time.Duration
}

func dial(b *testing.B, c contender, clients int) *load {
	b.Helper()
	l := &load{contender: c, calls: make([]int, clients), took: make([][]time.Duration, clients)}
	for range clients {
		conn, err := c.connect()
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		l.conns, l.read = append(l.conns, conn), append(l.read, bufio.NewReader(conn))
	}
	b.Cleanup(func() {
		for _, conn := range l.conns {
			_ = conn.Close()
		}
	})
	return l
}

// run has every client call one after the other for the time, and returns the
// calls a second and the server's CPU in microseconds a call.
func (l *load) run(b *testing.B, d time.Duration) (rate, cpu float64) {
	b.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(l.conns))
	done := make([]int, len(l.conns))
	var before time.Duration
	if l.cpu != nil {
		before = l.cpu()
	}
	began := time.Now()
	end := began.Add(d)
	for i := range l.conns {
		wg.Go(func() {
			for time.Now().Before(end) {
				t := time.Now()
				if errs[i] = l.call(i); errs[i] != nil {
					return
				}
				l.took[i] = append(l.took[i], time.Since(t))
				done[i]++
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	total := 0
	for i, err := range errs {
		if err != nil {
			b.Fatalf("%s: %v", l.name, err)
		}
		total += done[i]
	}
	if l.cpu != nil {
		cpu = float64((l.cpu() - before).Microseconds()) / float64(total)
	}
	return float64(total) / elapsed.Seconds(), cpu
}

func (l *load) p99() float64 {
	all := slices.Concat(l.took...)
	slices.Sort(all)
	return float64(all[int(math.Ceil(float64(len(all))*0.99))-1].Microseconds()) / 1000
}

// call sends one request and reads its whole answer.
func (l *load) call(i int) error {
	l.calls[i]++
	_ = l.conns[i].SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := l.conns[i].Write(l.request(i, l.calls[i])); err != nil {
		return err
	}
	head, err := l.read[i].ReadSlice('\n')
	if err != nil {
		return err
	}
	status := string(head)
	size, last := -1, false
	for {
		line, err := l.read[i].ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(name, "Content-Length") {
			if size, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		} else if ok && strings.EqualFold(name, "Connection") && strings.EqualFold(strings.TrimSpace(value), "close") {
			last = true
		}
	}
	if size < 0 {
		return fmt.Errorf("an answer without a length: %s", status)
	}
	if !strings.Contains(status, l.status) {
		body, _ := io.ReadAll(io.LimitReader(l.read[i], int64(size)))
		return fmt.Errorf("answered %s %s", strings.TrimSpace(status), body)
	}
	if _, err = l.read[i].Discard(size); err != nil || !last {
		return err
	}
	// A server ends a connection after so many requests: go on with another.
	_ = l.conns[i].Close()
	if l.conns[i], err = l.connect(); err == nil {
		l.read[i].Reset(l.conns[i])
	}
	return err
}

func (c contender) connect() (net.Conn, error) {
	if c.tls != nil {
		return tls.Dial("tcp", c.addr, c.tls)
	}
	return net.Dial("tcp", c.addr)
}
