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
		s.mustRefuse(isolation.LayerSQL, "login role", "logging in behind a closed gate", loginOutcome(err), "the database did not answer")
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
	for _, a := range own {
		p.try(ctx, s, conn, a, "")
	}
	for _, table := range ownTables {
		o, detail := p.inside(ctx, conn, "", "SELECT FROM "+pgx.Identifier{table}.Sanitize()+" LIMIT 0")
		s.mustAllow(isolation.LayerSQL, table, "selecting from its own table", o, detail)
	}
	for _, other := range peers {
		p.trySQLPeer(ctx, s, conn, other)
	}
	p.contexts(ctx, s, conn, t, peers, ownTables)
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

func (p *Prover) trySQLPeer(ctx context.Context, s *sheet, conn *pgx.Conn, other subject) {
	schema := tenants.SchemaName(other.id)
	names, err := p.tablesOf(ctx, schema)
	if err != nil {
		s.unproven("sql: the tables of " + other.id.String() + " could not be listed")
		return
	}
	for _, table := range names {
		o, detail := p.inside(ctx, conn, "", "SELECT FROM "+pgx.Identifier{schema, table}.Sanitize()+" LIMIT 1", insufficientPrivilege)
		s.mustRefuse(isolation.LayerSQL, other.id.String()+"."+table, "selecting from another's table", o, detail)
	}
	for _, a := range peer {
		a.sql = strings.ReplaceAll(a.sql, "{peer}", schema)
		p.try(ctx, s, conn, a, other.id.String())
	}
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

func (p *Prover) try(ctx context.Context, s *sheet, conn *pgx.Conn, a attempt, object string) {
	if object == "" {
		object = "login role"
	}
	o, detail := p.inside(ctx, conn, "", a.sql, insufficientPrivilege)
	s.mustRefuse(isolation.LayerSQL, object, a.name, o, detail)
	if a.twin != "" {
		o, detail = p.inside(ctx, conn, "", strings.ReplaceAll(a.twin, "{own}", tenants.RoleName(s.t.ID)))
		s.mustAllow(isolation.LayerSQL, object, a.twinName, o, detail)
	}
}

// inside runs one statement in a transaction that is rolled back, under a signed
// context if there is one.
func (p *Prover) inside(ctx context.Context, conn *pgx.Conn, signed, sql string, codes ...string) (outcome, string) {
	return sqlOutcome(p.within(ctx, conn, signed, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	}), codes...)
}

func (p *Prover) within(ctx context.Context, conn *pgx.Conn, signed string, fn func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if signed != "" {
		if _, err := tx.Exec(ctx, `SELECT set_config($1, $2, true)`, tenantdb.Setting, signed); err != nil {
			return err
		}
	}
	return fn(tx)
}

// contexts tries the signed context: forged ones are errors, none shows no rows.
func (p *Prover) contexts(ctx context.Context, s *sheet, conn *pgx.Conn, t subject, peers []subject, ownTables []string) {
	key, err := p.contextKey(ctx, t.id)
	if err != nil {
		s.unproven("context: the context key could not be read")
		return
	}
	pid, soon := conn.PgConn().PID(), p.Now().Add(contextLife)
	owner := tenants.Actor{ID: tenants.NewID(), TenantID: t.id, Role: tenants.RoleOwner}
	good := tenantdb.Mint(key, pid, tenantdb.KindMember, owner, soon)
	o, detail := p.inside(ctx, conn, good, `SELECT cell.ctx_role()`)
	s.mustAllow(isolation.LayerContext, "context", "a context that holds", o, detail)

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
		o, detail := p.inside(ctx, conn, signed, `SELECT cell.ctx_role()`, tenantdb.CodeBadContext)
		s.mustRefuse(isolation.LayerContext, "context", what, o, detail)
	}
	for _, table := range ownTables {
		o, detail := p.rows(ctx, conn, "", table)
		s.mustRefuse(isolation.LayerContext, table, "rows without a context", o, detail)
	}
	nurse := tenantdb.Mint(key, pid, tenantdb.KindMember, tenants.Actor{ID: tenants.NewID(), TenantID: t.id, Role: tenants.RoleNurse}, soon)
	for _, table := range []string{"client", "shift_note", "client_contact", "client_allergy"} {
		o, detail := p.rows(ctx, conn, nurse, table)
		s.mustRefuse(isolation.LayerContext, table, "rows of a facility for a nurse who has none", o, detail)
	}
	o, detail = p.rows(ctx, conn, good, "tenant_setting")
	s.mustAllow(isolation.LayerContext, "tenant_setting", "rows for an owner", o, detail)
}

// rows tells whether any row is seen; none is a refusal.
func (p *Prover) rows(ctx context.Context, conn *pgx.Conn, signed, table string) (outcome, string) {
	var seen bool
	err := p.within(ctx, conn, signed, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+pgx.Identifier{table}.Sanitize()+`)`).Scan(&seen)
	})
	if err == nil && !seen {
		return refused, "no row is seen"
	}
	return sqlOutcome(err, insufficientPrivilege)
}

func (p *Prover) contextKey(ctx context.Context, tenant tenants.ID) (tenantdb.ContextKey, error) {
	var inner []byte
	if err := p.Cell.QueryRow(ctx, `SELECT inner_block FROM cell.context_key WHERE role_name = $1`, tenants.RoleName(tenant)).Scan(&inner); err != nil {
		return tenantdb.ContextKey{}, fmt.Errorf("reading the context key: %w", err)
	}
	return tenantdb.ContextKeyFromBlock(inner)
}
