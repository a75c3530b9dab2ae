-- name: RotationAsk :exec
INSERT INTO key_rotation (id, organization_id, cell_id, asked_by)
VALUES (@id, @organization_id, @cell_id, @asked_by);

-- name: RotationPlace :one
-- Locked, so that two who ask at once see each other's.
SELECT id, slug, state, cell_id, gate_mode, key_alive FROM organization WHERE slug = @slug FOR UPDATE;

-- name: RotationUnderWay :one
SELECT EXISTS (SELECT 1 FROM key_rotation WHERE organization_id = @organization_id AND finished_at IS NULL) AS there;

-- name: RotationDue :many
-- Live organizations of a cell whose key is as old as that, and none is rotating.
SELECT o.id
FROM organization o
WHERE o.cell_id = @cell_id AND o.state IN ('live', 'read_only') AND o.gate_mode <> 'closed' AND o.key_alive
  AND coalesce((SELECT s.finished_at FROM provisioning_step s WHERE s.organization_id = o.id AND s.step = 'key'), o.created_at)
      < now() - make_interval(secs => @every_seconds::float8)
  AND NOT EXISTS (
      SELECT 1 FROM key_rotation r
      WHERE r.organization_id = o.id
        AND (r.finished_at IS NULL OR coalesce(r.rotated_at, r.asked_at) > now() - make_interval(secs => @every_seconds::float8)))
ORDER BY o.id
LIMIT @count;

-- name: RotationStalled :many
-- Under way, due, allowed to go on, worked on by nobody, and no job waits to do it soon.
SELECT r.organization_id
FROM key_rotation r
JOIN organization o ON o.id = r.organization_id
LEFT JOIN provisioning_lease l ON l.organization_id = r.organization_id
WHERE r.cell_id = @cell_id AND r.finished_at IS NULL
  AND (o.gate_mode <> 'closed' OR o.state = 'closed')
  AND coalesce(r.retire_after, r.asked_at) <= now()
  AND coalesce(l.until, r.asked_at) < now()
  AND NOT EXISTS (
      SELECT 1 FROM river_job j
      WHERE j.kind = 'rotate_key' AND j.state IN ('available', 'scheduled', 'retryable', 'pending')
        AND j.scheduled_at < now() + interval '10 minutes'
        AND j.args ->> 'organization_id' = r.organization_id::text)
ORDER BY r.asked_at
LIMIT 100;

-- name: RotationOpen :one
-- The one under way, and how long its grace still lasts.
SELECT r.id, r.cell_id, r.asked_by, r.state, r.reason, coalesce(r.from_version, 0)::int AS from_version, coalesce(r.to_version, 0)::int AS to_version,
       greatest(0, coalesce(extract(epoch FROM r.retire_after - clock_timestamp()), 0))::float8 AS wait_seconds,
       o.state AS organization_state, o.gate_mode, o.key_alive
FROM key_rotation r
JOIN organization o ON o.id = r.organization_id
WHERE r.organization_id = @organization_id AND r.finished_at IS NULL;

-- name: RotationBegin :execrows
UPDATE key_rotation SET state = 'rotating', reason = '', from_version = @from_version, to_version = @to_version
WHERE id = @id AND state = 'waiting';

-- name: RotationTurned :execrows
UPDATE key_rotation SET state = 'rewrapping', reason = '', rotated_at = now()
WHERE id = @id AND state = 'rotating';

-- name: RotationRewrapped :execrows
UPDATE key_rotation
SET state = 'grace', reason = '', wraps = @wraps, rewrapped_at = now(), retire_after = now() + make_interval(secs => @grace_seconds::float8)
WHERE id = @id AND state = 'rewrapping';

-- name: RotationEnd :execrows
UPDATE key_rotation SET state = @state, reason = @reason, wraps = greatest(wraps, @wraps::int), finished_at = now()
WHERE id = @id AND finished_at IS NULL;

-- name: RotationReason :exec
UPDATE key_rotation SET reason = @reason WHERE id = @id AND finished_at IS NULL AND reason <> @reason;

-- name: RotationGet :one
SELECT r.id, r.organization_id, o.slug, r.cell_id, r.asked_by, r.state, r.reason, coalesce(r.from_version, 0)::int AS from_version,
       coalesce(r.to_version, 0)::int AS to_version, r.wraps, r.asked_at, r.rotated_at, r.rewrapped_at, r.retire_after, r.finished_at
FROM key_rotation r
JOIN organization o ON o.id = r.organization_id
WHERE r.id = @id;

-- name: RotationKeys :many
-- The keys that serve or could, with the newest rotation of each. A key that was
-- never rotated is of version 1, since it was made.
SELECT o.id, o.slug, o.state, coalesce(o.cell_id, '')::text AS cell_id, o.gate_mode,
       coalesce(d.to_version, 1)::int AS version,
       coalesce(d.rotated_at, (SELECT s.finished_at FROM provisioning_step s WHERE s.organization_id = o.id AND s.step = 'key'), o.created_at)::timestamptz AS since,
       coalesce(n.id, o.id)::uuid AS rotation_id, coalesce(n.state, '')::text AS rotation_state, coalesce(n.reason, '')::text AS rotation_reason
FROM organization o
LEFT JOIN LATERAL (
    SELECT to_version, rotated_at FROM key_rotation
    WHERE organization_id = o.id AND rotated_at IS NOT NULL ORDER BY rotated_at DESC LIMIT 1) d ON true
LEFT JOIN LATERAL (
    SELECT id, state, reason FROM key_rotation WHERE organization_id = o.id ORDER BY asked_at DESC LIMIT 1) n ON true
WHERE o.key_alive AND o.slug > @after_slug AND (@slug::text = '' OR o.slug = @slug::text)
ORDER BY o.slug
LIMIT @count;
