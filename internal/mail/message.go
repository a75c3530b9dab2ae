// Package mail writes the system's letters and delivers them by SMTP.
//
// It owns the templates and the delivery loop. Letters are plain text and carry no
// PHI: a name, an organization, a link, a code. It trusts the outbox for what is
// due and the SMTP server only over TLS. It never logs a body, a recipient or a
// code, and it has no storage of its own: whoever keeps the outbox implements Outbox.
package mail

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Message is one letter.
type Message struct {
	ID       tenants.ID
	To       string
	Template string
	Subject  string
	Body     string
	MadeAt   time.Time
}

// Template names a letter's text.
type Template string

// The letters.
const (
	// Invitation: the first owner of an organization that signed up.
	Invitation Template = "invitation"
	// MemberInvitation: a member that an organization's owner invited.
	MemberInvitation Template = "member_invitation"
	// AlreadyRegistered: somebody signed up with an address that has an account.
	AlreadyRegistered Template = "already_registered"
	// Recovery and Verification carry a code that somebody asked for on a page.
	Recovery     Template = "recovery"
	Verification Template = "verification"
	// Quarantine tells the operators of an organization whose isolation proof failed.
	Quarantine Template = "quarantine"
)

// Data is what the templates may say. Name and Organization are the person's own input.
type Data struct {
	Name, Organization string
	// Link is where to go, Code what to enter there; Hours how long both are good.
	Link, Code string
	Hours      int
	Minutes    int
}

//go:embed templates/*.txt
var files embed.FS

var parsed = template.Must(template.New("").ParseFS(files, "templates/*.txt"))

// Write renders a letter. The first line of a template is its subject. Control
// characters in the data become spaces, so that nobody's name adds a header or a
// line to a letter.
func Write(t Template, to string, d Data) (Message, error) {
	d.Name, d.Organization = oneLine(d.Name), oneLine(d.Organization)
	var b bytes.Buffer
	if err := parsed.ExecuteTemplate(&b, string(t)+".txt", d); err != nil {
		return Message{}, fmt.Errorf("writing the letter %s: %w", t, err)
	}
	subject, body, ok := strings.Cut(b.String(), "\n\n")
	if !ok {
		return Message{}, fmt.Errorf("the letter %s has no body", t)
	}
	return Message{ID: tenants.NewID(), To: to, Template: string(t), Subject: oneLine(subject), Body: body, MadeAt: time.Now()}, nil
}

func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s))
}
