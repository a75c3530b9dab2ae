package access

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

func unavailable(cause error) error {
	return tenants.WrapError(tenants.KindUnavailable, "please try again shortly", cause)
}

// isLoginRefused tells whether the server turned the tenant's role away: the gate
// made it NOLOGIN (28000), or its certificate is no longer good (28P01).
func isLoginRefused(err error) bool { return pg.IsCode(err, "28000") || pg.IsCode(err, "28P01") }

// classify gives an error from database, keys or network its kind. One that has a
// kind keeps it; what is left is a defect of ours.
func classify(err error) error {
	var known *tenants.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case isLoginRefused(err):
		return tenants.WrapError(tenants.KindGateClosed, "this organization cannot be served now", err)
	case errors.Is(err, driver.ErrKeyDisabled), errors.Is(err, driver.ErrKeyGone):
		return tenants.WrapError(tenants.KindGateClosed, "this organization cannot be served now", err)
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrAuth):
		return unavailable(err)
	case errors.Is(err, driver.ErrIntegrity), errors.Is(err, driver.ErrVersionRetired):
		return tenants.WrapError(tenants.KindIntegrity, "a stored value failed its check", err)
	case errors.Is(err, pgx.ErrNoRows):
		return tenants.WrapError(tenants.KindNotFound, "not found", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable(err)
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return classifyServer(server, err)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || isBroken(err) {
		return unavailable(err)
	}
	return err
}

// classifyServer reads an error that PostgreSQL answered with, by its SQLSTATE.
func classifyServer(server *pgconn.PgError, err error) error {
	switch server.Code {
	case "23505":
		return tenants.WrapError(tenants.KindConflict, "this exists already", err)
	case "23503":
		return tenants.WrapError(tenants.KindConflict, "what this refers to is not there", err)
	case "42501":
		// A policy said no: the row is out of the actor's scope. The same code for a
		// missing grant is a defect of ours, which stays one.
		if strings.Contains(server.Message, "row-level security") {
			return tenants.WrapError(tenants.KindNotFound, "not found", err)
		}
	case tenantdb.CodeForeignStatement, "26000", "0A000", "57014", "55P03", "40001", "40P01", "25P03", "57P01", "57P02", "57P03", "57P05":
		return unavailable(err)
	}
	// 08 connection, 53 resources, 58 system, XX corrupted: not the request's fault.
	for _, class := range []string{"08", "53", "58"} {
		if strings.HasPrefix(server.Code, class) {
			return unavailable(err)
		}
	}
	return err
}

// isBroken tells whether the connection ended under a statement, which pgx reports
// as plain text.
func isBroken(err error) bool {
	s := err.Error()
	return strings.Contains(s, "unexpected EOF") || strings.Contains(s, "conn closed") || strings.Contains(s, "closed pool")
}
