// Package outbox keeps the letters of the control plane until they are sent.
//
// It owns reading and settling rows of the mail table; who writes a letter inserts
// it in the transaction that the letter is about. It never hands out a letter's
// text but to the delivery and, on a local stack, to the outbox page.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/tenants"
)

const (
	timeout = 5 * time.Second
	// shown is how many letters a listing has at most.
	shown = 100
)

// Box is the outbox. It implements mail.Outbox.
type Box struct{ q *store.Queries }

// New returns the outbox of a control database.
func New(pool *pgxpool.Pool) *Box { return &Box{store.New(pool)} }

// Claim implements mail.Outbox.
func (b *Box) Claim(ctx context.Context) (mail.Message, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := b.q.ClaimMail(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return mail.Message{}, false, nil
	}
	if err != nil {
		return mail.Message{}, false, fmt.Errorf("claiming a letter: %w", err)
	}
	return mail.Message{ID: m.ID, To: m.Recipient, Template: m.Template, Subject: m.Subject, Body: m.Body, MadeAt: m.MadeAt}, true, nil
}

// Sent implements mail.Outbox. The text, which holds a code, is forgotten.
func (b *Box) Sent(ctx context.Context, id tenants.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := b.q.MailSent(ctx, id); err != nil {
		return fmt.Errorf("settling a letter: %w", err)
	}
	return nil
}

// Failed implements mail.Outbox.
func (b *Box) Failed(ctx context.Context, id tenants.ID, reason string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := b.q.MailFailed(ctx, store.MailFailedParams{ID: id, Reason: reason}); err != nil {
		return fmt.Errorf("noting a letter's failure: %w", err)
	}
	return nil
}

// List returns the newest letters, to one address if it is not empty.
func (b *Box) List(ctx context.Context, to string) ([]mail.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rows, err := b.q.ListMail(ctx, store.ListMailParams{Recipient: to, Count: shown})
	if err != nil {
		return nil, fmt.Errorf("listing letters: %w", err)
	}
	out := make([]mail.Message, len(rows))
	for i, m := range rows {
		out[i] = mail.Message{ID: m.ID, To: m.Recipient, Template: m.Template, Subject: m.Subject, Body: m.Body, MadeAt: m.MadeAt}
	}
	return out, nil
}
