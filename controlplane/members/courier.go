package members

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/input"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// CodeLifetime is how long a code that Kratos made on request is good, in minutes:
// selfservice.methods.code.config.lifespan of its configuration.
const CodeLifetime = 15

// courierTemplates are Kratos' letters that are sent, and as which of ours. Others
// (a note to an address without an account, say) are dropped.
var courierTemplates = map[string]mail.Template{
	"recovery_code_valid":     mail.Recovery,
	"verification_code_valid": mail.Verification,
}

// Deliver puts a letter that Kratos asks for into the outbox, in our words.
func (s *Service) Deliver(ctx context.Context, to, template, code string) error {
	t, ok := courierTemplates[template]
	if !ok {
		return nil
	}
	to, err := input.ParseEmail("body.to", to)
	if err != nil {
		return err
	}
	if code == "" || len(code) > 16 {
		return tenants.Invalid("body.code", "must be a code")
	}
	m, err := mail.Write(t, to, mail.Data{Code: code, Minutes: CodeLifetime})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return pg.InTx(ctx, s.pool, func(tx pgx.Tx) error { return insertMail(ctx, tx, m) })
}
