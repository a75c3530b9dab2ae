-- What the door itself needs: repeats of a POST, data keys, the probe's row.

-- name: ClaimIdempotencyKey :execrows
-- Zero rows: somebody was first. A concurrent first waits here until it commits.
INSERT INTO idempotency_key (key, operation, request_hash, record_id)
VALUES ($1, $2, $3, $4)
ON CONFLICT ON CONSTRAINT idempotency_key_pk DO NOTHING;

-- name: GetIdempotencyKey :one
SELECT k.operation, k.request_hash, k.record_id
FROM idempotency_key k
WHERE k.actor = $1 AND k.key = $2;

-- name: NewestDataKey :one
SELECT k.id, k.purpose, k.wrapped, k.kms_version, k.created_at
FROM data_key k
WHERE k.purpose = $1
ORDER BY k.created_at DESC, k.id DESC
LIMIT 1;

-- name: GetDataKey :one
SELECT k.id, k.purpose, k.wrapped, k.kms_version, k.created_at
FROM data_key k
WHERE k.id = $1;

-- name: InsertDataKey :exec
INSERT INTO data_key (id, purpose, wrapped, kms_version) VALUES ($1, $2, $3, $4);

-- name: InsertProbe :exec
INSERT INTO probe (id, sealed) VALUES ($1, $2);

-- name: GetProbe :one
SELECT p.sealed FROM probe p WHERE p.id = $1;

-- name: DeleteProbe :execrows
DELETE FROM probe WHERE id = $1;
