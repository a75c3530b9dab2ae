-- name: GateLock :one
-- What the gate of one organization is decided from, and what was decided last.
SELECT o.id, o.slug, o.state, o.key_alive, o.cell_id, o.placement_epoch,
       o.gate_mode, o.gate_reason, o.gate_until, o.gate_version
FROM organization o
WHERE o.id = @id
FOR UPDATE;

-- name: GateAgreement :one
SELECT id, organization_id, state, executed_at, expires_at
FROM baa
WHERE organization_id = @organization_id AND state = 'executed';

-- name: GateStore :one
-- The version counts decisions that something outside must follow.
UPDATE organization
SET gate_mode = @gate_mode, gate_reason = @gate_reason, gate_until = sqlc.narg(gate_until),
    gate_version = gate_version + @step, updated_at = now()
WHERE id = @id
RETURNING gate_version;

-- name: GateCandidates :many
-- Everything that the reconciler compares, a page at a time.
SELECT o.id, o.state, o.key_alive, o.gate_mode, o.gate_reason, o.gate_until,
       b.id AS baa_id, b.state AS baa_state, b.executed_at, b.expires_at
FROM organization o
LEFT JOIN baa b ON b.organization_id = o.id AND b.state = 'executed'
WHERE o.id > @after_id
ORDER BY o.id
LIMIT @page;

-- name: RouteBump :one
UPDATE route_version SET version = version + 1 WHERE singleton RETURNING version;

-- name: RouteNotify :exec
SELECT pg_notify('caresphere_routes', @version::text);

-- name: RouteVersion :one
SELECT version FROM route_version WHERE singleton;

-- name: RouteRaise :execrows
UPDATE route_version SET version = @version WHERE singleton AND version < @version;
