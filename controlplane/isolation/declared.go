package isolation

import (
	"context"
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
	var l look
	err := p.atVersion(ctx, tenant, func(ref *reference) error {
		l = look{}
		return p.snapshot(ctx, tenant, ref, func(tx pgx.Tx) error { return l.read(ctx, tx, tenant, ref) })
	})
	return l, err
}

// read fills the look with what the transaction sees.
func (l *look) read(ctx context.Context, tx querier, tenant tenants.ID, ref *reference) error {
	name := tenants.SchemaName(tenant)
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
	for _, f := range l.behind(t) {
		s.follows(f)
	}
	p.keyStands(ctx, s, t)
	return l.tables
}

// declaredFindings are findings of the layer of what is declared.
type declaredFindings []isolation.Finding

func (all *declaredFindings) add(object, problem, declared, found string) {
	*all = append(*all, isolation.Finding{Layer: isolation.LayerDeclared, Object: object, Problem: problem, Declared: declared, Found: found})
}

// behind compares login role and cell with the gate's decision.
func (l look) behind(t subject) (out declaredFindings) {
	if l.roleThere && l.login != t.open() {
		out.add("login role", "login does not follow the gate", onOff(t.open()), onOff(l.login))
	}
	if l.roleThere && (l.gateOpen != t.open() || l.gateVersion < t.gateVersion) {
		out.add("gate", "the cell does not have the decision", fmt.Sprintf("%s, version %d", t.gate, t.gateVersion), fmt.Sprintf("%s, version %d", onOff(l.gateOpen), l.gateVersion))
	}
	return out
}

// standing says what role and credential lack, whatever the gate does.
func (l look) standing(t subject) (out declaredFindings) {
	if !l.roleThere {
		out.add("login role", "it is missing", "a role", "")
		return out
	}
	if t.open() && !l.connect {
		out.add("login role", "it may not connect to the database", "CONNECT", "")
	}
	if l.temp {
		out.add("login role", "it may make objects in the database", "", "TEMP or CREATE")
	}
	if !l.contextKey {
		out.add("context key", "it is missing", "a key", "")
	}
	if !l.credential {
		out.add("credential", "it is missing or another's", "a credential", "")
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
		s.follows(isolation.Finding{Layer: isolation.LayerKey, Object: "key", Problem: "its state does not follow the gate", Declared: string(want), Found: string(status.State)})
		return
	}
	s.count(isolation.LayerKey).Allowed++
}

// readable says an error without what a library may have quoted.
func readable(err error) string {
	switch {
	case errors.Is(err, errNewer):
		return errNewer.Error()
	case errors.Is(err, errMoved):
		return errMoved.Error()
	case errors.Is(err, errNoTenant):
		return errNoTenant.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "it took too long"
	case errors.Is(err, tenantdb.ErrNoCredential):
		return "there is no credential"
	}
	return "a database did not answer as it should; the provisioner's log has it"
}
