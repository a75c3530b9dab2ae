package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/schema"
)

// readyTimeout bounds how long the programs may take until the whole way works.
const readyTimeout = 90 * time.Second

// Stack is a running stack.
type Stack struct {
	cfg      Config
	services *services
	children map[string]*child
	client   *http.Client
	unlock   func()
}

// Start starts a stack: servers, migrations, the platform's programs. It returns
// once the public origin's /readyz answers 200, and an operator can sign in.
// After an error nothing runs. What is in the state folder already is used again.
func Start(ctx context.Context, cfg Config) (s *Stack, err error) {
	s = &Stack{cfg: cfg, children: map[string]*child{}}
	if err := checkBinaries(cfg.Binaries); err != nil {
		return nil, err
	}
	if s.unlock, err = cfg.Lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := cfg.claimPorts(ctx); err != nil {
		return s, err
	}
	if s.services, err = startServices(ctx, cfg); err != nil {
		return s, err
	}
	if s.client, err = httpsClient(cfg.CA()); err != nil {
		return s, err
	}
	if err := s.migrate(ctx); err != nil {
		return s, err
	}
	for _, name := range Programs() {
		s.children[name] = &child{spec: s.services.program(cfg, name), say: cfg.say}
		if err := s.children[name].start(); err != nil {
			return s, err
		}
	}
	if err := s.awaitReady(ctx); err != nil {
		return s, err
	}
	if _, err := EnsureOperator(ctx, cfg.Layout); err != nil {
		return s, err
	}
	return s, nil
}

func checkBinaries(dir string) error {
	var missing []string
	for _, name := range Binaries() {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks %s: run `make build`", dir, strings.Join(missing, ", "))
	}
	return nil
}

// claimPorts names every port that is taken at once, before anything starts. A
// run that was killed leaves programs that are still ending: those get time.
func (c Config) claimPorts(ctx context.Context) error {
	mark := c.Path("running")
	_, unclean := os.Stat(mark)
	until := time.Now().Add(20 * time.Second)
	for {
		err := c.checkPorts()
		if err == nil {
			break
		}
		if unclean != nil || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return fmt.Errorf("marking the state folder: %w", err)
	}
	return nil
}

func (c Config) checkPorts() error {
	var taken []error
	for _, p := range Ports(c.Full) {
		if p == PortPostgres { // a server that a killed run left is dealt with later
			continue
		}
		if err := CheckPort(p.String(), c.Port(p)); err != nil {
			taken = append(taken, err)
		}
	}
	return errors.Join(taken...)
}

// migrate brings the databases up to date and registers the cell.
func (s *Stack) migrate(ctx context.Context) error {
	control := s.services.postgres.DSN(ControlDatabase, "platform_owner")
	n, err := schema.Control(ctx, control)
	if err != nil {
		return err
	}
	m, err := schema.Cell(ctx, s.services.postgres.DSN(CellDatabase, "cell_owner"))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, control)
	if err != nil {
		return fmt.Errorf("registering the cell: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `INSERT INTO cell (id) VALUES ($1) ON CONFLICT DO NOTHING`, CellID); err != nil {
		return fmt.Errorf("registering the cell: %w", err)
	}
	s.cfg.say("schema       current (%d migrations applied)", n+m)
	return nil
}

// awaitReady waits until each program is alive and the whole way is ready.
func (s *Stack) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, name := range Programs() {
		url := s.cfg.URL(HealthPort(name)) + "/livez"
		if err := s.await(ctx, name, url); err != nil {
			return err
		}
		s.cfg.say("%-12s alive", name)
	}
	return s.await(ctx, Router, s.cfg.URL(PortPublic)+"/readyz")
}

func (s *Stack) await(ctx context.Context, name, url string) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := getOK(try, s.client, url)
		cancel()
		if err == nil {
			return nil
		}
		for _, c := range s.children {
			if err := c.crashing(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; %s says:\n%s", name, err, s.cfg.Log(name), indent(s.children[name].current().LastWords(15)))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Failed returns a channel that gets an error when one of the servers below the
// programs ends by itself: the stack cannot go on then.
func (s *Stack) Failed() <-chan error {
	failed := make(chan error, len(s.services.watched))
	for _, p := range s.services.watched {
		go func() {
			<-p.Done()
			failed <- fmt.Errorf("%s ended by itself (%s); the end of its log:\n%s", p.Name(), how(p.Err()), p.LastWords(12))
		}()
	}
	return failed
}

// Ready is nil when the public origin says that the whole way works.
func (s *Stack) Ready(ctx context.Context) error {
	return getOK(ctx, s.client, s.cfg.URL(PortPublic)+"/readyz")
}

// StartDatabase starts PostgreSQL again if it has ended by itself, and returns its
// process number once it answers. Failed goes on telling of the process that ended.
func (s *Stack) StartDatabase(ctx context.Context) (int, error) {
	if err := s.services.postgres.Restart(ctx); err != nil {
		return 0, fmt.Errorf("starting PostgreSQL again: %w", err)
	}
	return s.services.postgres.Process().PID(), nil
}

// Full tells whether Vault, S3 and stripe-mock are part of the stack.
func (s *Stack) Full() bool { return s.cfg.Full }

// Stop stops the programs, then the servers, in the reverse order of their start.
func (s *Stack) Stop(ctx context.Context) error {
	var failed []error
	names := Programs()
	for i := len(names) - 1; i >= 0; i-- {
		if c := s.children[names[i]]; c != nil {
			if err := c.stop(ctx); err != nil {
				failed = append(failed, err)
			} else {
				s.cfg.say("stopped      %s", names[i])
			}
		}
	}
	if s.services != nil {
		failed = append(failed, s.services.stop(ctx, s.cfg))
	}
	if err := errors.Join(failed...); err != nil {
		s.unlock()
		return err
	}
	// Nothing of this run is left: the next one need not wait for anything.
	_ = os.Remove(s.cfg.Path("running"))
	s.unlock()
	return nil
}

// Layout says where the stack lives.
func (s *Stack) Layout() Layout { return s.cfg.Layout }

// Superuser returns the bootstrap role's DSN for a database, for tests.
func (s *Stack) Superuser(database string) string { return s.services.postgres.Superuser(database) }

// DSN returns a cluster role's DSN for a database.
func (s *Stack) DSN(database, role string) string { return s.services.postgres.DSN(database, role) }

// PID returns the process number of a program's current life, 0 if it never ran.
func (s *Stack) PID(program string) int {
	c, ok := s.children[program]
	if !ok || c.current() == nil {
		return 0
	}
	return c.current().PID()
}

// Kill ends a program with SIGKILL; it is started again.
func (s *Stack) Kill(program string) error {
	c, ok := s.children[program]
	if !ok {
		return fmt.Errorf("there is no program %q", program)
	}
	c.kill()
	return nil
}

// StopProgram ends a program and leaves it ended; StartProgram starts it again and
// waits until it is alive.
func (s *Stack) StopProgram(ctx context.Context, program string) error {
	c, ok := s.children[program]
	if !ok {
		return fmt.Errorf("there is no program %q", program)
	}
	return c.stop(ctx)
}

// StartProgram starts a program that StopProgram ended.
func (s *Stack) StartProgram(ctx context.Context, program string) error {
	c, ok := s.children[program]
	if !ok {
		return fmt.Errorf("there is no program %q", program)
	}
	if err := c.start(); err != nil {
		return err
	}
	return s.await(ctx, program, s.cfg.URL(HealthPort(program))+"/livez")
}
