package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
)

// ErrUnstated is wrapped where the database states an epoch that nobody signed: what
// is sealed would begin wherever whoever wrote the row wants it to.
var ErrUnstated = errors.New("an epoch was not stated by us")

// Epoch is one life of a log, from the start or from a restore on.
type Epoch struct {
	Number    int
	StartSize int64
	MinSeq    int64
	StartedAt time.Time
	// Signed is the statement that began it, and Root the root of the StartSize entries
	// that it goes on from. The first epoch has neither.
	Signed string
	Root   tlog.Hash
}

// Newest returns the log's newest epoch. The first begins with nothing; a later one
// is what its statement says, signed by one of the known keys. Errors: ErrUnstated,
// or the database's.
func Newest(ctx context.Context, q Querier, l audit.Log, known note.Verifiers) (Epoch, error) {
	var e Epoch
	err := q.QueryRow(ctx, "SELECT epoch, start_size, min_seq, started_at, reason FROM "+l.Table("audit_epoch")+" ORDER BY epoch DESC LIMIT 1").
		Scan(&e.Number, &e.StartSize, &e.MinSeq, &e.StartedAt, &e.Signed)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, fmt.Errorf("the log has no epoch: %w", ErrUnstated)
	}
	if err != nil {
		return e, fmt.Errorf("reading the epoch of log %s: %w", l.Name(), err)
	}
	if e.Number <= 1 {
		e.Signed = ""
		if e.StartSize != 0 || e.MinSeq != 0 {
			return e, fmt.Errorf("the first epoch begins at %d entries, after number %d: %w", e.StartSize, e.MinSeq, ErrUnstated)
		}
		return e, nil
	}
	s, err := openStatement(e.Signed, known)
	if err != nil || s.Origin != l.Origin(e.Number) || s.StartSize != e.StartSize || s.MinSeq != e.MinSeq {
		return e, fmt.Errorf("epoch %d: %w", e.Number, ErrUnstated)
	}
	e.Root = s.Root
	return e, nil
}

// Statement begins an epoch: under which origin, from how many entries with which
// root, past which number, after which head, and why.
type Statement struct {
	Origin    string
	StartSize int64
	MinSeq    int64
	Root      tlog.Hash
	// Follows is the SHA-256 of the note of the last head of the epoch before.
	Follows tlog.Hash
	Reason  string
}

// StatementOrigin is the name under which an anchor keeps an epoch's statement: one
// of its own, as the epoch's heads are no continuation of it.
func StatementOrigin(l audit.Log, epoch int) string { return l.Origin(epoch) + "/statement" }

// Digest is the SHA-256 of a signed note.
func Digest(signed string) tlog.Hash { return sha256.Sum256([]byte(signed)) }

// statementForm is the first line of a statement. No checkpoint begins with it, so
// neither signature can be taken for the other's.
const statementForm = "caresphere.dev/audit-epoch/v1"

func (s Statement) text() string {
	return strings.Join([]string{statementForm, s.Origin, strconv.FormatInt(s.StartSize, 10), strconv.FormatInt(s.MinSeq, 10),
		s.Root.String(), s.Follows.String(), strconv.QuoteToASCII(s.Reason), ""}, "\n")
}

// Sign returns the statement as a signed note. The same statement by the same key is
// the same note.
func (s Statement) Sign(signer note.Signer) (string, error) {
	signed, err := note.Sign(&note.Note{Text: s.text()}, signer)
	if err != nil {
		return "", fmt.Errorf("signing the statement of %s: %w", s.Origin, err)
	}
	return string(signed), nil
}

var errNotStatement = errors.New("not a statement of an epoch")

// openStatement verifies a signed statement and reads it.
func openStatement(signed string, known note.Verifiers) (Statement, error) {
	n, err := note.Open([]byte(signed), known)
	if err != nil {
		return Statement{}, fmt.Errorf("verifying a statement: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 8 {
		return Statement{}, errNotStatement
	}
	s := Statement{Origin: lines[1]}
	var errs [5]error
	s.StartSize, errs[0] = strconv.ParseInt(lines[2], 10, 64)
	s.MinSeq, errs[1] = strconv.ParseInt(lines[3], 10, 64)
	s.Root, errs[2] = tlog.ParseHash(lines[4])
	s.Follows, errs[3] = tlog.ParseHash(lines[5])
	s.Reason, errs[4] = strconv.Unquote(lines[6])
	// Spelled in the one way: what was read gives the text that was signed.
	if errors.Join(errs[:]...) != nil || s.text() != n.Text {
		return Statement{}, errNotStatement
	}
	return s, nil
}
