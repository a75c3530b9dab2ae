package mail_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func TestLettersAreWhole(t *testing.T) {
	d := mail.Data{Name: "Dana", Organization: "Maple Grove", Link: "https://localhost:8443/welcome?flow=x", Code: "123456", Hours: 48, Minutes: 15}
	for _, name := range []mail.Template{mail.Invitation, mail.MemberInvitation, mail.AlreadyRegistered, mail.Recovery, mail.Verification} {
		m, err := mail.Write(name, "dana@example.org", d)
		require.NoError(t, err, name)
		assert.NotContains(t, m.Subject+m.Body, "<no value>", name)
		assert.NotContains(t, m.Subject, "\n", name)
		assert.NotEmpty(t, m.Body, name)
		if name != mail.AlreadyRegistered {
			assert.Contains(t, m.Body, "\n  123456\n", name)
			assert.NotContains(t, m.Subject, "123456", "a code is not for lock screens")
		}
	}
}

func TestNobodysNameAddsALine(t *testing.T) {
	m, err := mail.Write(mail.MemberInvitation, "x@example.org", mail.Data{Name: "Dana\r\nBcc: y@example.org", Organization: "Maple\n\nPay here\u2028now"})
	require.NoError(t, err)
	assert.NotContains(t, m.Subject, "\n")
	assert.NotContains(t, m.Body, "\nBcc")
	assert.NotContains(t, m.Body, "\nPay")
}

// server is an SMTP server, over TLS, that keeps what it takes.
type server struct {
	mu     sync.Mutex
	taken  []string
	refuse string
}

func (s *server) listen(t *testing.T) string {
	t.Helper()
	pair, err := testkit.CA(t).Issue(t, "localhost").TLS()
	require.NoError(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(c)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "smtps://localhost:" + port + "?from=no-reply@caresphere.example"
}

func (s *server) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := textproto.NewReader(bufio.NewReader(c))
	say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
	say("220 test")
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0]); verb {
		case "EHLO":
			say("250-test")
			say("250 8BITMIME")
		case "RCPT":
			if s.refuse != "" {
				say(s.refuse)
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			b, err := r.ReadDotBytes()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.taken = append(s.taken, string(b))
			s.mu.Unlock()
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestSMTPDeliversOverTLSAlone(t *testing.T) {
	s := &server{}
	address := s.listen(t)
	conf := &tls.Config{RootCAs: testkit.CA(t).Pool(), MinVersion: tls.VersionTLS12}
	sender, err := mail.OpenSMTP(address, conf)
	require.NoError(t, err)
	m, err := mail.Write(mail.Recovery, "dana@example.org", mail.Data{Code: "123456", Minutes: 15})
	require.NoError(t, err)
	require.NoError(t, sender.Send(context.Background(), m))
	require.Len(t, s.taken, 1)
	assert.Contains(t, s.taken[0], "123456")
	assert.Contains(t, s.taken[0], m.ID.String()+"@caresphere")

	stranger, err := mail.OpenSMTP(address, &tls.Config{RootCAs: testkit.Other(t).Pool(), MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	require.Error(t, stranger.Send(context.Background(), m), "a server that the CA does not know")
	assert.Len(t, s.taken, 1)

	s.refuse = "550 no such person dana@example.org"
	err = sender.Send(context.Background(), m)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "dana@example.org")
	assert.NotContains(t, err.Error(), "123456")
}

func TestAddressesOfMailServersAreChecked(t *testing.T) {
	for _, bad := range []string{"", "mail.example.org", "http://mail.example.org?from=a@example.org", "smtp://mail.example.org", "smtp://?from=a@example.org",
		"smtp://u:geheim%zz@mail.example.org?from=a@example.org"} {
		_, err := mail.OpenSMTP(bad, nil)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "geheim")
	}
}

// box is an outbox in memory: what a real one cannot do on request is fail.
type box struct {
	mu           sync.Mutex
	due          []mail.Message
	sent, failed []tenants.ID
	claimErr     error
}

func (b *box) Claim(context.Context) (mail.Message, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.claimErr; err != nil {
		b.claimErr = nil
		return mail.Message{}, false, err
	}
	if len(b.due) == 0 {
		return mail.Message{}, false, nil
	}
	m := b.due[0]
	b.due = b.due[1:]
	return m, true, nil
}

func (b *box) Sent(_ context.Context, id tenants.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, id)
	return nil
}

func (b *box) Failed(_ context.Context, id tenants.ID, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = append(b.failed, id)
	return nil
}

type picky struct{ bad tenants.ID }

func (p picky) Send(_ context.Context, m mail.Message) error {
	if m.ID == p.bad {
		return errors.New("refused")
	}
	return nil
}

func TestOneBadLetterHoldsUpNoOther(t *testing.T) {
	b := &box{claimErr: errors.New("the database is away")}
	for range 3 {
		b.due = append(b.due, mail.Message{ID: tenants.NewID()})
	}
	bad := b.due[1].ID
	d := &mail.Delivery{Outbox: b, Sender: picky{bad}, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	assert.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.sent) == 2 && len(b.failed) == 1
	}, 5*time.Second, 5*time.Millisecond, "also after the outbox was away")
	cancel()
	<-done
	assert.Equal(t, []tenants.ID{bad}, b.failed)
}
