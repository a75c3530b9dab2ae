package isolation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// contextLife is how long the contexts of a proof hold.
const contextLife = 20 * time.Second

// sql logs in as the tenant's role, with a certificate of this moment, and tries
// what that login must not get at.
func (p *Prover) sql(ctx context.Context, s *sheet, t subject, peers []subject, ownTables []string) {
	cert, err := p.Authority.Issue(t.id, p.Now())
	if err != nil {
		s.unproven("sql: a certificate could not be made")
		return
	}
	conn, err := pg.Connect(ctx, p.CellDSN, pg.Options{ApplicationName: "caresphere-isolation", User: tenants.RoleName(t.id),
		Certificate: &cert, SearchPath: tenants.SchemaName(t.id), StatementTimeout: 5 * time.Second, LockTimeout: time.Second})
	if !t.open() {
		s.mustFollow(isolation.LayerSQL, "login role", "logging in behind a closed gate", loginOutcome(err), "the database did not answer")
		if err == nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
		return
	}
	s.mustAllow(isolation.LayerSQL, "login role", "logging in", loginOutcome(err), "the login was refused or the database did not answer")
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var all []trial
	for _, a := range own {
		all = append(all, s.trials(a, "login role")...)
	}
	for _, table := range ownTables {
		all = append(all, s.allow(isolation.LayerSQL, table, "selecting from its own table", trial{sql: "SELECT FROM " + pgx.Identifier{table}.Sanitize() + " LIMIT 0"}))
	}
	for _, other := range peers {
		all = append(all, p.peerTrials(ctx, s, other)...)
	}
	judge(ctx, conn, all)
	// Signed now: a context holds for seconds.
	judge(ctx, conn, p.contextTrials(ctx, s, conn.PgConn().PID(), t, peers, ownTables))
}

func loginOutcome(err error) outcome {
	if err == nil {
		return allowed
	}
	var server *pgconn.PgError
	if errors.As(err, &server) && (server.Code == "28000" || server.Code == "28P01" || server.Code == insufficientPrivilege) {
		return refused
	}
	return unclear
}

// refuse is a trial that has to be refused.
func (s *sheet) refuse(layer, object, what string, t trial) trial {
	t.enter = func(o outcome, detail string) { s.mustRefuse(layer, object, what, o, detail) }
	return t
}

// allow is a trial that has to be let through.
func (s *sheet) allow(layer, object, what string, t trial) trial {
	t.enter = func(o outcome, detail string) { s.mustAllow(layer, object, what, o, detail) }
	return t
}

// trials are an attempt and its twin.
func (s *sheet) trials(a attempt, object string) []trial {
	both := []trial{s.refuse(isolation.LayerSQL, object, a.name, trial{sql: a.sql, codes: []string{insufficientPrivilege}})}
	if a.twin != "" {
		both = append(both, s.allow(isolation.LayerSQL, object, a.twinName, trial{sql: strings.ReplaceAll(a.twin, "{own}", tenants.RoleName(s.t.ID))}))
	}
	return both
}

// peerTrials are those against another tenant.
func (p *Prover) peerTrials(ctx context.Context, s *sheet, other subject) (all []trial) {
	schema := tenants.SchemaName(other.id)
	names, err := p.tablesOf(ctx, schema)
	if err != nil {
		s.unproven("sql: the tables of " + other.id.String() + " could not be listed")
		return nil
	}
	for _, table := range names {
		all = append(all, s.refuse(isolation.LayerSQL, other.id.String()+"."+table, "selecting from another's table",
			trial{sql: "SELECT FROM " + pgx.Identifier{schema, table}.Sanitize() + " LIMIT 1", codes: []string{insufficientPrivilege}}))
	}
	for _, a := range peer {
		a.sql = strings.ReplaceAll(a.sql, "{peer}", schema)
		all = append(all, s.trials(a, other.id.String())...)
	}
	return all
}

// tablesOf lists what there is and not what should be: a table that nobody declared
// must be out of reach as well.
func (p *Prover) tablesOf(ctx context.Context, schema string) ([]string, error) {
	rows, err := p.Cell.Query(ctx, `SELECT c.relname::text FROM pg_namespace n
		JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
		JOIN pg_class c ON c.oid = d.objid AND c.relnamespace = n.oid
		WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1`, schema)
	if err != nil {
		return nil, fmt.Errorf("listing tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing tables: %w", err)
	}
	return list, nil
}

// contextTrials try the signed context: forged ones are errors, none shows no rows.
func (p *Prover) contextTrials(ctx context.Context, s *sheet, pid uint32, t subject, peers []subject, ownTables []string) []trial {
	key, err := p.contextKey(ctx, t.id)
	if err != nil {
		s.unproven("context: the context key could not be read")
		return nil
	}
	const role = `SELECT cell.ctx_role()`
	soon := p.Now().Add(contextLife)
	owner := tenants.Actor{ID: tenants.NewID(), TenantID: t.id, Role: tenants.RoleOwner}
	good := tenantdb.Mint(key, pid, tenantdb.KindMember, owner, soon)
	all := []trial{s.allow(isolation.LayerContext, "context", "a context that holds", trial{signed: good, sql: role})}

	elsewhere := owner
	forged := map[string]string{
		"a context of another backend": tenantdb.Mint(key, pid+1, tenantdb.KindMember, owner, soon),
		"an expired context":           tenantdb.Mint(key, pid, tenantdb.KindMember, owner, p.Now().Add(-time.Minute)),
		"a context by no key":          tenantdb.Mint(tenantdb.ContextKey{}, pid, tenantdb.KindMember, owner, soon),
		"a context with another role":  strings.Replace(good, "|owner|", "|nurse|", 1),
		"words":                        "owner",
	}
	if len(peers) > 0 {
		elsewhere.TenantID = peers[0].id
		forged["another tenant's context by its own key"] = tenantdb.Mint(key, pid, tenantdb.KindMember, elsewhere, soon)
		if theirs, err := p.contextKey(ctx, peers[0].id); err == nil {
			forged["a context by another's key"] = tenantdb.Mint(theirs, pid, tenantdb.KindMember, owner, soon)
		}
	}
	for what, signed := range forged {
		all = append(all, s.refuse(isolation.LayerContext, "context", what, trial{signed: signed, sql: role, codes: []string{tenantdb.CodeBadContext}}))
	}
	for _, table := range ownTables {
		all = append(all, s.refuse(isolation.LayerContext, table, "rows without a context", anyRow("", table)))
	}
	nurse := tenantdb.Mint(key, pid, tenantdb.KindMember, tenants.Actor{ID: tenants.NewID(), TenantID: t.id, Role: tenants.RoleNurse}, soon)
	for _, table := range []string{"client", "shift_note", "client_contact", "client_allergy"} {
		all = append(all, s.refuse(isolation.LayerContext, table, "rows of a facility for a nurse who has none", anyRow(nurse, table)))
	}
	return append(all, s.allow(isolation.LayerContext, "tenant_setting", "rows for an owner", anyRow(good, "tenant_setting")))
}

// anyRow asks whether any row is seen.
func anyRow(signed, table string) trial {
	return trial{signed: signed, sql: `SELECT EXISTS (SELECT FROM ` + pgx.Identifier{table}.Sanitize() + `)`, rows: true, codes: []string{insufficientPrivilege}}
}

func (p *Prover) contextKey(ctx context.Context, tenant tenants.ID) (tenantdb.ContextKey, error) {
	var inner []byte
	if err := p.Cell.QueryRow(ctx, `SELECT inner_block FROM cell.context_key WHERE role_name = $1`, tenants.RoleName(tenant)).Scan(&inner); err != nil {
		return tenantdb.ContextKey{}, fmt.Errorf("reading the context key: %w", err)
	}
	return tenantdb.ContextKeyFromBlock(inner)
}
