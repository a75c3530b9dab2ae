package mail

import (
	"context"
	"log/slog"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Outbox keeps letters until they are sent.
type Outbox interface {
	// Claim returns the next letter that is due; false if there is none. A letter
	// that is neither Sent nor Failed afterwards is claimed again later.
	Claim(ctx context.Context) (Message, bool, error)
	// Sent records that the server took the letter.
	Sent(ctx context.Context, id tenants.ID) error
	// Failed records why it did not. The letter is claimed again, later each time.
	Failed(ctx context.Context, id tenants.ID, reason string) error
}

// Sender hands a letter to the outside.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Delivery carries letters from an outbox to a sender.
type Delivery struct {
	Outbox Outbox
	Sender Sender
	// Every is how often the outbox is looked at; two seconds if zero.
	Every time.Duration
	Log   *slog.Logger
}

// Run delivers until the context is over.
func (d *Delivery) Run(ctx context.Context) {
	every := d.Every
	if every <= 0 {
		every = 2 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		d.drain(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Delivery) drain(ctx context.Context) {
	for ctx.Err() == nil {
		m, ok, err := d.Outbox.Claim(ctx)
		if err != nil {
			d.Log.ErrorContext(ctx, "mail: looking into the outbox failed", "error", err)
			return
		}
		if !ok {
			return
		}
		if err := d.Sender.Send(ctx, m); err != nil {
			d.Log.WarnContext(ctx, "mail: a letter was not taken", "mail", m.ID, "template", m.Template, "error", err)
			err = d.Outbox.Failed(ctx, m.ID, "the mail server did not take it")
			if err != nil {
				d.Log.ErrorContext(ctx, "mail: recording a failure failed", "mail", m.ID, "error", err)
			}
			continue
		}
		if err := d.Outbox.Sent(ctx, m.ID); err != nil {
			d.Log.ErrorContext(ctx, "mail: recording a delivery failed", "mail", m.ID, "error", err)
		}
	}
}
