package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5/pgconn"
)

// Failure is a failed step in words that the customer and the operator may read:
// no secret, no address of a machine, no PHI. The cause is for the log.
type Failure struct {
	Reason string
	// Final says that trying again changes nothing until somebody acts.
	Final bool
	cause error
}

// Error returns reason and cause, for the log.
func (f *Failure) Error() string {
	if f.cause == nil {
		return f.Reason
	}
	return f.Reason + ": " + f.cause.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.cause }

func because(reason string, cause error) error { return &Failure{Reason: reason, cause: cause} }

func final(reason string) error { return &Failure{Reason: reason, Final: true} }

var (
	// ErrFenced means that another process took the lease; whatever this one was about to
	// write was not written.
	ErrFenced = errors.New("provisioning: another process has taken over")
	// ErrBusy means that another process holds the lease.
	ErrBusy = errors.New("provisioning: another process is at it")
)

// readable turns an error into a reason without anything that an error of a
// library may have quoted.
func readable(err error) string {
	var f *Failure
	if errors.As(err, &f) {
		return f.Reason
	}
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, driver.ErrUnavailable):
		return "the key service does not answer; it is tried again"
	case errors.Is(err, driver.ErrKeyGone):
		return "the key of this organization was destroyed"
	case errors.Is(err, driver.ErrKeyDisabled):
		return "the key of this organization is disabled"
	case tenants.IsKind(err, tenants.KindGateClosed):
		return gateClosed
	case errors.Is(err, driver.ErrIntegrity), errors.Is(err, driver.ErrVersionRetired):
		return "a wrapped key of this organization failed its check: a person has to look"
	case errors.Is(err, driver.ErrAuth):
		return "the key service refuses the provisioner's credentials"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "the step took too long; it is tried again"
	case errors.As(err, &connect):
		return "a database does not answer; it is tried again"
	case pg.IsCode(err, "55P03"):
		return "a database table was busy; it is tried again"
	case errors.As(err, &server):
		return fmt.Sprintf("a database refused the step (%s)", server.Code)
	}
	return "an internal error; the log of the provisioner has it"
}
