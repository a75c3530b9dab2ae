package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// sendTimeout bounds the delivery of one letter.
const sendTimeout = 20 * time.Second

// SMTP delivers by a mail server, over TLS always.
type SMTP struct {
	client *gomail.Client
	from   string
}

// OpenSMTP reads an address of the form
//
//	smtp://user:password@host:587?from=no-reply@example.org   (STARTTLS, demanded)
//	smtps://user:password@host:465?from=…                      (TLS from the start)
//
// and does not connect. User and password may be left out.
func OpenSMTP(address string, conf *tls.Config) (*SMTP, error) {
	u, err := url.Parse(address)
	if err != nil {
		// The parser's error repeats the address, password included.
		return nil, errors.New("the mail server's address is not a URL")
	}
	from := u.Query().Get("from")
	if from == "" || u.Hostname() == "" {
		return nil, errors.New("the mail server's address needs a host and ?from=")
	}
	opts := []gomail.Option{gomail.WithTimeout(sendTimeout), gomail.WithTLSPolicy(gomail.TLSMandatory)}
	switch u.Scheme {
	case "smtp":
	case "smtps":
		opts = append(opts, gomail.WithSSL())
	default:
		return nil, fmt.Errorf("mail: the scheme %q is neither smtp nor smtps", u.Scheme)
	}
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil {
			return nil, fmt.Errorf("mail: the port is not a number: %w", err)
		}
		opts = append(opts, gomail.WithPort(n))
	}
	if conf != nil {
		conf = conf.Clone()
		conf.ServerName = u.Hostname()
		opts = append(opts, gomail.WithTLSConfig(conf))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(u.User.Username()), gomail.WithPassword(password))
	}
	client, err := gomail.NewClient(u.Hostname(), opts...)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return &SMTP{client: client, from: from}, nil
}

// Send delivers one letter. The server is asked to take it once: its id is the
// Message-ID, by which a repeat after a crash can be told.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	msg := gomail.NewMsg()
	if err := msg.FromFormat("CareSphere", s.from); err != nil {
		return fmt.Errorf("the sender's address: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return errors.New("the recipient's address is not valid")
	}
	msg.SetMessageIDWithValue(m.ID.String() + "@caresphere")
	msg.SetDateWithValue(m.MadeAt)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.Subject(m.Subject)
	msg.SetBodyString(gomail.TypeTextPlain, m.Body)
	if err := s.client.DialAndSendWithContext(ctx, msg); err != nil {
		var se *gomail.SendError
		if errors.As(err, &se) {
			// Its text repeats addresses; the reason is enough.
			return fmt.Errorf("the mail server refused: %s", se.Reason)
		}
		return err
	}
	return nil
}
