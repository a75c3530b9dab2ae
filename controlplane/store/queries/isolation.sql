-- name: IsolationAsk :exec
INSERT INTO isolation_run (id, kind, cell_id, organization_id, asked_by)
VALUES (@id, @kind, @cell_id, sqlc.narg(organization_id), @asked_by);

-- name: IsolationSchedule :execrows
-- The next proof of the whole cell, if the last one was asked for long enough ago
-- and there is somebody to prove.
INSERT INTO isolation_run (id, kind, cell_id, asked_by)
SELECT @id, 'proof', @cell_id, 'schedule'
WHERE EXISTS (SELECT 1 FROM organization o WHERE o.cell_id = @cell_id AND o.state IN ('live', 'read_only', 'suspended', 'quarantined'))
  AND NOT EXISTS (
    SELECT 1 FROM isolation_run r
    WHERE r.cell_id = @cell_id AND r.kind = 'proof' AND r.organization_id IS NULL
      AND (r.asked_at > now() - make_interval(secs => @every_seconds::float8)
        OR r.state IN ('waiting', 'running') AND r.asked_at > now() - interval '1 day'));

-- name: IsolationAbandoned :many
-- Runs that nobody works on any more: their job was given up or is gone.
UPDATE isolation_run r
SET state = 'failed', reason = @reason, finished_at = clock_timestamp()
WHERE r.cell_id = @cell_id AND r.finished_at IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM river_job j
    WHERE j.kind = 'isolation' AND j.args @> jsonb_build_object('run_id', r.id) AND j.finalized_at IS NULL)
RETURNING r.id, r.kind, r.organization_id, r.asked_by;

-- name: IsolationStart :one
-- A run whose process was killed is taken again by the job's next try. It began when
-- its first look did. A proof of the whole cell is of the round that is due there.
UPDATE isolation_run r
SET state = 'running', started_at = coalesce(r.started_at, now()),
    round = coalesce(r.round, CASE WHEN r.kind = 'proof' AND r.organization_id IS NULL THEN c.isolation_round ELSE r.number END)
FROM cell c
WHERE r.id = @id AND r.state IN ('waiting', 'running') AND c.id = r.cell_id
RETURNING r.id, r.number, r.kind, r.cell_id, r.organization_id, r.asked_by, r.asked_at, r.started_at, coalesce(r.round, 0)::bigint AS round;

-- name: IsolationRoundDone :exec
-- After a proof of the whole cell the next round is due; two at once were of the same.
UPDATE cell c SET isolation_round = greatest(c.isolation_round, r.round + 1)
FROM isolation_run r
WHERE r.id = @id AND r.cell_id = c.id AND r.state = 'done' AND r.kind = 'proof' AND r.organization_id IS NULL;

-- name: IsolationFinish :execrows
UPDATE isolation_run
SET state = @state, reason = @reason, ok = @ok, proven = @proven, failed = @failed, unproven = @unproven,
    document = @document, finished_at = clock_timestamp()
WHERE id = @id AND state = 'running';

-- name: IsolationRun :one
SELECT r.id, r.number, r.kind, r.cell_id, r.organization_id, coalesce(o.slug, '') AS slug, r.asked_by, r.state, r.reason,
       r.ok, r.proven, r.failed, r.unproven, r.asked_at, r.started_at, r.finished_at
FROM isolation_run r
LEFT JOIN organization o ON o.id = r.organization_id
WHERE r.id = @id;

-- name: IsolationDocument :one
SELECT kind, state, document FROM isolation_run WHERE id = @id;

-- name: IsolationRuns :many
SELECT r.id, r.number, r.kind, r.cell_id, r.organization_id, coalesce(o.slug, '') AS slug, r.asked_by, r.state, r.reason,
       r.ok, r.proven, r.failed, r.unproven, r.asked_at, r.started_at, r.finished_at
FROM isolation_run r
LEFT JOIN organization o ON o.id = r.organization_id
ORDER BY r.number DESC
LIMIT @count;

-- name: IsolationTenants :many
-- The tenants of a cell that a proof covers: those that were live once.
SELECT id, slug, state, gate_mode, gate_version, gate_applied, key_alive, placement_epoch
FROM organization
WHERE cell_id = @cell_id AND state IN ('live', 'read_only', 'suspended', 'quarantined')
ORDER BY id;

-- name: IsolationTenant :one
SELECT id, slug, state, gate_mode, gate_version, gate_applied, key_alive, placement_epoch
FROM organization
WHERE id = @id AND cell_id = @cell_id AND state IN ('live', 'read_only', 'suspended', 'quarantined');

-- name: IsolationResultAdd :exec
INSERT INTO isolation_result (organization_id, run_id, verdict, findings, summary, part)
VALUES (@organization_id, @run_id, @verdict, @findings, @summary, @part)
ON CONFLICT ON CONSTRAINT isolation_result_pk DO NOTHING;

-- name: IsolationResultRetry :exec
-- A verdict that could not be reached gives way to the one of another look.
DELETE FROM isolation_result WHERE organization_id = @organization_id AND run_id = @run_id AND verdict = 'unproven';

-- name: IsolationNewest :one
SELECT organization_id, run_id, verdict, findings, summary, proved_at
FROM isolation_result
WHERE organization_id = @organization_id
ORDER BY proved_at DESC
LIMIT 1;

-- name: IsolationVerdicts :many
-- The newest result of every organization that has one, those in trouble first.
SELECT o.id, o.slug, o.legal_name, o.state, r.verdict, r.findings, r.summary, r.proved_at, r.run_id
FROM organization o
JOIN LATERAL (
    SELECT verdict, findings, summary, proved_at, run_id FROM isolation_result
    WHERE organization_id = o.id ORDER BY proved_at DESC LIMIT 1) r ON true
WHERE o.state <> 'closed'
ORDER BY (r.verdict = 'proven'), o.slug
LIMIT @count;

-- name: IsolationQuarantined :one
SELECT count(*) FROM organization WHERE state = 'quarantined';

-- name: IsolationPlace :one
SELECT id, cell_id FROM organization WHERE slug = @slug AND state IN ('live', 'read_only', 'suspended', 'quarantined');

-- name: IsolationCells :many
SELECT id FROM cell ORDER BY id;

-- name: IsolationPurge :execrows
-- Scheduled runs that are past their time, the oldest first: all that are older than
-- @older_seconds; of those older than @thin_seconds that went well, all but the last of each day.
DELETE FROM isolation_run
WHERE id IN (
    SELECT r.id FROM isolation_run r
    WHERE r.asked_by = 'schedule'
      AND (r.finished_at < now() - make_interval(secs => @older_seconds::float8)
        OR r.finished_at < now() - make_interval(secs => @thin_seconds::float8) AND r.ok AND EXISTS (
            SELECT 1 FROM isolation_run n
            WHERE n.asked_by = 'schedule' AND n.ok AND n.cell_id = r.cell_id AND n.kind = r.kind AND n.finished_at > r.finished_at
              AND n.finished_at < date_trunc('day', r.finished_at, 'UTC') + interval '1 day'))
    ORDER BY r.finished_at
    LIMIT @count);

-- name: IsolationResultsDrop :exec
-- Of a run of one tenant that begins anew after its process was killed.
DELETE FROM isolation_result WHERE run_id = @run_id;

-- name: IsolationParts :many
-- What a run of all tenants has found so far.
SELECT organization_id, part FROM isolation_result
WHERE organization_id IN (SELECT id FROM organization WHERE cell_id = @cell_id) AND run_id = @run_id AND part IS NOT NULL;

-- name: IsolationPartsDrop :exec
-- The signed report has them.
UPDATE isolation_result SET part = NULL
WHERE organization_id IN (SELECT id FROM organization WHERE cell_id = @cell_id) AND run_id = @run_id AND part IS NOT NULL;

-- name: IsolationClear :one
-- Nothing that failed stands: a proof that began before a failure says nothing of it.
SELECT NOT EXISTS (
    SELECT 1 FROM isolation_result f
    WHERE f.organization_id = @organization_id AND f.verdict = 'failed' AND NOT EXISTS (
        SELECT 1 FROM isolation_result p JOIN isolation_run r ON r.id = p.run_id
        WHERE p.organization_id = f.organization_id AND p.verdict = 'proven' AND r.started_at > f.proved_at)) AS clear;
