package isolation

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// look is what the catalog said of a tenant at one moment.
type look struct {
	differences []difference
	tables      []string
	facts       int
	login       bool
	connect     bool
	temp        bool
	gateOpen    bool
	gateVersion int64
	credential  bool
	contextKey  bool
	roleThere   bool
}

// inspect compares the tenant's schema and role with the reference of its version.
func (p *Prover) inspect(ctx context.Context, tenant tenants.ID) (look, error) {
	var (
		l    look
		v    versions
		err  error
		name = tenants.SchemaName(tenant)
	)
	if v, err = p.versionsOf(ctx, tenant); err != nil {
		return l, err
	}
	ref, err := p.reference(ctx, v)
	if err != nil {
		return l, err
	}
	err = p.rolledBack(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = pg_catalog`); err != nil {
			return fmt.Errorf("beginning to look: %w", err)
		}
		found, err := facts(ctx, tx, name, name)
		if err != nil {
			return err
		}
		l.differences, l.facts, l.tables = compare(ref.tenant, found), len(found), tables(found)
		err = tx.QueryRow(ctx, `
			SELECT r.rolcanlogin, has_database_privilege(r.oid, current_database(), 'CONNECT'),
			       has_database_privilege(r.oid, current_database(), 'TEMP') OR has_database_privilege(r.oid, current_database(), 'CREATE')
			FROM pg_roles r WHERE r.rolname = $1`, name).Scan(&l.login, &l.connect, &l.temp)
		l.roleThere = err == nil
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("reading the login role: %w", err)
		}
		if err := tx.QueryRow(ctx, `
			SELECT coalesce((SELECT gate_open FROM cell.tenant_fence WHERE tenant_id = $1), false),
			       coalesce((SELECT gate_version FROM cell.tenant_fence WHERE tenant_id = $1), -1),
			       EXISTS (SELECT FROM cell.context_key WHERE role_name = $2),
			       EXISTS (SELECT FROM cell.tenant_credential WHERE tenant_id = $1 AND role_name = $2 AND key_name = $3)`,
			tenant, name, driver.KeyName(tenant)).Scan(&l.gateOpen, &l.gateVersion, &l.contextKey, &l.credential); err != nil {
			return fmt.Errorf("reading the cell's record of the tenant: %w", err)
		}
		return nil
	})
	return l, err
}

// versionsOf reads how far the tenant's schema and the cell are migrated.
func (p *Prover) versionsOf(ctx context.Context, tenant tenants.ID) (versions, error) {
	var v versions
	if err := p.Cell.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM public.`+ledger+` WHERE is_applied`).Scan(&v.cell); err != nil {
		return v, fmt.Errorf("reading the cell's version: %w", err)
	}
	err := p.Cell.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+tenants.SchemaName(tenant)+`.`+ledger+` WHERE is_applied`).Scan(&v.tenant)
	if err != nil {
		return v, fmt.Errorf("reading the schema's version: %w", err)
	}
	return v, nil
}

// declared enters what differs from what should be.
func (p *Prover) declared(ctx context.Context, s *sheet, t subject) []string {
	rules, err := p.Provisioner.Rules(ctx, t.id)
	if err != nil {
		s.unproven("declared: " + readable(err))
	}
	for _, r := range rules {
		s.found(isolation.LayerDeclared, "rule", r)
	}
	l, err := p.inspect(ctx, t.id)
	if err != nil {
		p.Log.ErrorContext(ctx, "a tenant could not be inspected", "tenant", t.id.String(), "error", err)
		s.unproven("declared: " + readable(err))
		return nil
	}
	c := s.count(isolation.LayerDeclared)
	c.Allowed += l.facts
	for _, f := range findings(l.differences) {
		s.add(f)
	}
	for _, f := range l.standing(t) {
		s.add(f)
	}
	p.keyStands(ctx, s, t)
	return l.tables
}

// standing compares role, gate and credential with what the gate says.
func (l look) standing(t subject) []isolation.Finding {
	var out []isolation.Finding
	add := func(object, problem, declared, found string) {
		out = append(out, isolation.Finding{Layer: isolation.LayerDeclared, Object: object, Problem: problem, Declared: declared, Found: found})
	}
	if !l.roleThere {
		add("login role", "it is missing", "a role", "")
		return out
	}
	if l.login != t.open() {
		add("login role", "login does not follow the gate", onOff(t.open()), onOff(l.login))
	}
	if t.open() && !l.connect {
		add("login role", "it may not connect to the database", "CONNECT", "")
	}
	if l.temp {
		add("login role", "it may make objects in the database", "", "TEMP or CREATE")
	}
	if l.gateOpen != t.open() || l.gateVersion < t.gateVersion {
		add("gate", "the cell does not have the decision", fmt.Sprintf("%s, version %d", t.gate, t.gateVersion), fmt.Sprintf("%s, version %d", onOff(l.gateOpen), l.gateVersion))
	}
	if !l.contextKey {
		add("context key", "it is missing", "a key", "")
	}
	if !l.credential {
		add("credential", "it is missing or another's", "a credential", "")
	}
	return out
}

func onOff(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

// keyStands compares the key's state with the gate.
func (p *Prover) keyStands(ctx context.Context, s *sheet, t subject) {
	status, err := p.Keys.Status(ctx, driver.KeyName(t.id))
	if err != nil {
		s.unproven("declared: the state of the key could not be read")
		return
	}
	want := driver.StateDisabled
	if t.open() {
		want = driver.StateAlive
	}
	if status.State != want {
		s.add(isolation.Finding{Layer: isolation.LayerKey, Object: "key", Problem: "its state does not follow the gate", Declared: string(want), Found: string(status.State)})
		return
	}
	s.count(isolation.LayerKey).Allowed++
}

// shared compares what all tenants of the cell stand on.
func (p *Prover) shared(ctx context.Context, v versions) ([]difference, *reference, error) {
	ref, err := p.reference(ctx, v)
	if err != nil {
		return nil, nil, err
	}
	var list []difference
	err = p.rolledBack(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog`); err != nil {
			return fmt.Errorf("beginning to look: %w", err)
		}
		found, err := sharedFacts(ctx, tx)
		if err != nil {
			return err
		}
		list = compare(ref.cell, found)
		unseen, err := hidden(ctx, tx)
		list = append(list, unseen...)
		return err
	})
	return list, ref, err
}

//go:embed hidden.sql
var hiddenSQL string

// hidden returns what tenants' schemas hold that a look at one of them does not see. It
// reads all of the catalog, a million rows among ten thousand tenants.
func hidden(ctx context.Context, tx querier) ([]difference, error) {
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '10min'`); err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	rows, err := tx.Query(ctx, hiddenSQL)
	if err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	var list []difference
	var schema, what string
	_, err = pgx.ForEachRow(rows, []any{&schema, &what}, func() error {
		list = append(list, difference{found: &fact{Object: schema, Property: what, Value: "no dependency names it"}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	return list, nil
}

// readable says an error without what a library may have quoted.
func readable(err error) string {
	switch {
	case errors.Is(err, errNewer):
		return errNewer.Error()
	case errors.Is(err, errNoTenant):
		return errNoTenant.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "it took too long"
	case errors.Is(err, tenantdb.ErrNoCredential):
		return "there is no credential"
	}
	return "a database did not answer as it should; the provisioner's log has it"
}
