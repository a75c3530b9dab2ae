-- name: LockEmail :exec
-- One enrolment of an e-mail address at a time, across processes, until the
-- transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('account:' || @email::text, 0));

-- name: LockIdempotencyKey :exec
-- One request with this key at a time, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('idempotency:' || @key::text, 0));
