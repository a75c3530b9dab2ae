package devstack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/devstack/proc"
)

const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 10 * time.Second
	// A program that ran this long starts its next life without a pause.
	steady = 20 * time.Second
	// A program that ended this often while the stack starts will not make it.
	crashes = 3
)

// child is one program, kept alive until it is stopped on purpose.
type child struct {
	spec proc.Spec
	say  func(string, ...any)

	mu sync.Mutex
	// ends counts how often it ended by itself since start, why says how last.
	ends    int
	why     string
	process *proc.Process
	wanted  bool
	// ended is closed when the keeper of the current life has left.
	ended chan struct{}
}

// start starts the program and its keeper. Starting a running one does nothing.
func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted {
		return nil
	}
	p, err := proc.Start(c.spec)
	if err != nil {
		return err
	}
	c.process, c.wanted, c.ended, c.ends = p, true, make(chan struct{}), 0
	go c.keep(p, c.ended)
	return nil
}

// keep restarts the program when it ends by itself, with a growing pause.
func (c *child) keep(p *proc.Process, ended chan struct{}) {
	defer close(ended)
	pause := firstRestart
	for {
		began := time.Now()
		<-p.Done()
		if time.Since(began) > steady {
			pause = firstRestart
		}
		c.mu.Lock()
		if !c.wanted {
			c.mu.Unlock()
			return
		}
		c.ends++
		c.why = fmt.Sprintf("%s ended by itself (%s); %s says:\n%s", c.spec.Name, how(p.Err()), c.spec.Log, indent(p.LastWords(6)))
		why := c.why
		c.mu.Unlock()
		c.say("%s\n%s is started again in %s", why, c.spec.Name, pause)
		next := c.again(&pause)
		if next == nil {
			return
		}
		p = next
	}
}

// again tries until the program starts, or is no longer wanted: nil.
func (c *child) again(pause *time.Duration) *proc.Process {
	for {
		time.Sleep(*pause)
		*pause = min(*pause*2, lastRestart)
		c.mu.Lock()
		if !c.wanted {
			c.mu.Unlock()
			return nil
		}
		p, err := proc.Start(c.spec)
		if err == nil {
			c.process = p
			c.mu.Unlock()
			return p
		}
		c.mu.Unlock()
		c.say("%s does not start: %v", c.spec.Name, err)
	}
}

// stop ends the program for good, or until start.
func (c *child) stop(ctx context.Context) error {
	c.mu.Lock()
	if !c.wanted {
		c.mu.Unlock()
		return nil
	}
	c.wanted = false
	p, ended := c.process, c.ended
	c.mu.Unlock()
	err := p.Stop(ctx)
	<-ended
	return err
}

// kill ends the current life at once; the keeper starts the next one.
func (c *child) kill() {
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}

func (c *child) current() *proc.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// crashing is an error once the program has ended by itself again and again.
func (c *child) crashing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends < crashes {
		return nil
	}
	return fmt.Errorf("%d times, %s", c.ends, c.why)
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

func how(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return fmt.Sprint(err)
}
