package isolation

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// quarantine closes the tenant's gate in the transaction that records the failure:
// state, gate with its job, audit entry and letter commit together or not at all.
// Its owner reads the reason, so it names nobody else.
func (p *Prover) quarantine(ctx context.Context, tx pgx.Tx, q *store.Queries, t isolation.Tenant) error {
	org, err := q.FleetLock(ctx, t.ID)
	if err != nil {
		return fmt.Errorf("locking the organization: %w", err)
	}
	from := tenants.State(org.State)
	p.Log.ErrorContext(ctx, "the isolation proof failed", "tenant", t.ID.String(), "state", org.State, "findings", len(t.Findings), "first", t.Findings[0].String())
	if !tenants.CanMove(from, tenants.StateQuarantined) {
		// It is quarantined already, or was closed meanwhile.
		return nil
	}
	reason := fmt.Sprintf("the isolation proof found %d differences", len(t.Findings))
	if len(t.Findings) == 1 {
		reason = "the isolation proof found a difference"
	}
	n, err := q.FleetMove(ctx, store.FleetMoveParams{ID: t.ID, OldState: org.State, NewState: string(tenants.StateQuarantined), Reason: reason})
	if err != nil {
		return fmt.Errorf("moving the organization: %w", err)
	}
	if n != 1 {
		return errors.New("moving the organization: it is in another state than when it was locked")
	}
	if err := p.Gatekeeper.Decide(ctx, tx, t.ID); err != nil {
		return fmt.Errorf("closing the gate: %w", err)
	}
	if err := audit.Insert(ctx, tx, tenants.Actor{Kind: tenants.ActorSystem}, audit.Event{Action: "organization.quarantine", RecordType: "organization",
		RecordID: t.ID.String(), OrganizationID: t.ID, Detail: map[string]string{"from": string(from), "reason": reason,
			"findings": strconv.Itoa(len(t.Findings)), "first": cut(t.Findings[0].String(), 500)}}); err != nil {
		return err
	}
	if err := p.alert(ctx, q, t); err != nil {
		return err
	}
	p.gauges.locked.Inc()
	return audit.Notify(ctx, tx, audit.ControlLog())
}

func (p *Prover) alert(ctx context.Context, q *store.Queries, t isolation.Tenant) error {
	if p.AlertMail == "" {
		return nil
	}
	m, err := mail.Write(mail.Quarantine, p.AlertMail, mail.Data{Organization: t.Slug})
	if err != nil {
		return err
	}
	if err := q.InsertMail(ctx, store.InsertMailParams{ID: m.ID, Recipient: m.To, Template: m.Template, Subject: m.Subject, Body: m.Body}); err != nil {
		return fmt.Errorf("writing the letter to the operators: %w", err)
	}
	return nil
}

func (p *Prover) inControl(ctx context.Context, fn func(pgx.Tx, *store.Queries) error) error {
	return pg.InTx(ctx, p.Control, func(tx pgx.Tx) error { return fn(tx, p.q.WithTx(tx)) })
}

// newest are the versions that the migrations of this build lead to.
func newest() (versions, error) {
	var (
		v   versions
		err error
	)
	if v.tenant, err = pg.LatestVersion(migrations.Tenant, "tenant"); err != nil {
		return v, err
	}
	v.cell, err = pg.LatestVersion(migrations.Cell, "cell")
	return v, err
}
