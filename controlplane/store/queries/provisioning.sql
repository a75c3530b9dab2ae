-- name: ProvisionSubject :one
SELECT id, slug, legal_name, care_setting, state, cell_id, placement_epoch, key_alive, gate_mode, gate_version, gate_applied
FROM organization
WHERE id = @id;

-- name: ProvisionOwner :one
SELECT identity_id, email, name
FROM account
WHERE organization_id = @organization_id AND first_owner
ORDER BY invited_at, identity_id
LIMIT 1;

-- name: AgreementInForce :one
-- By this database's clock, whose time executed_at is.
SELECT EXISTS (
    SELECT 1 FROM baa
    WHERE organization_id = @organization_id AND state = 'executed'
      AND executed_at <= clock_timestamp() AND clock_timestamp() < expires_at) AS in_force;

-- name: LeaseTake :one
-- Nobody's, or past its end. No row: somebody else holds it. The fence is above the one
-- that the cell has seen, also where that is ahead of this database.
INSERT INTO provisioning_lease AS l (organization_id, fence, holder, until)
VALUES (@organization_id, 1 + @seen::bigint, @holder, now() + make_interval(secs => @seconds::float8))
ON CONFLICT ON CONSTRAINT provisioning_lease_pk
DO UPDATE SET fence = 1 + greatest(l.fence, @seen), holder = excluded.holder, until = excluded.until
WHERE l.until < now()
RETURNING l.fence;

-- name: LeaseKeep :execrows
UPDATE provisioning_lease SET until = now() + make_interval(secs => @seconds::float8)
WHERE organization_id = @organization_id AND fence = @fence;

-- name: LeaseDrop :execrows
UPDATE provisioning_lease SET until = now() - interval '1 millisecond'
WHERE organization_id = @organization_id AND fence = @fence;

-- name: LeaseLock :one
-- In the transaction of every write: holds off the next taker until it commits.
SELECT fence FROM provisioning_lease
WHERE organization_id = @organization_id AND fence = @fence
FOR UPDATE;

-- name: StepAdd :exec
INSERT INTO provisioning_step (organization_id, step, position) VALUES (@organization_id, @step, @position)
ON CONFLICT ON CONSTRAINT provisioning_step_pk DO NOTHING;

-- name: StepBegin :execrows
-- A transaction of its own that holds the lease's row, as LeaseLock does in others. No
-- row: the lease is somebody else's.
WITH ours AS (
    SELECT l.fence FROM provisioning_lease AS l WHERE l.organization_id = @organization_id AND l.fence = @fence FOR UPDATE)
UPDATE provisioning_step AS s
SET state = 'running', attempt = s.attempt + 1, reason = '', started_at = now(), finished_at = NULL
FROM ours
WHERE s.organization_id = @organization_id AND s.step = @step;

-- name: StepEnd :execrows
-- As StepBegin.
WITH ours AS (
    SELECT l.fence FROM provisioning_lease AS l WHERE l.organization_id = @organization_id AND l.fence = @fence FOR UPDATE)
UPDATE provisioning_step AS s
SET state = @state, reason = @reason, finished_at = now()
FROM ours
WHERE s.organization_id = @organization_id AND s.step = @step;

-- name: StepState :one
SELECT state FROM provisioning_step WHERE organization_id = @organization_id AND step = @step;

-- name: ProvisionCells :many
SELECT c.id, count(o.id) AS tenants
FROM cell c
LEFT JOIN organization o ON o.cell_id = c.id AND o.state <> 'closed'
WHERE c.open
GROUP BY c.id
ORDER BY count(o.id), c.id;

-- name: ProvisionPlace :execrows
UPDATE organization SET cell_id = @cell_id, updated_at = now() WHERE id = @id AND cell_id IS NULL;

-- name: ProvisionKeyAlive :exec
UPDATE organization SET key_alive = @key_alive, updated_at = now() WHERE id = @id;

-- name: ProvisionEpoch :execrows
UPDATE organization SET placement_epoch = placement_epoch + 1, updated_at = now() WHERE id = @id AND placement_epoch = 0;

-- name: ProvisionStalled :many
-- Being provisioned, by nobody, and no job waits to: the process was killed. Those of a
-- cell, and those without a place, who are any cell's. Equality lets all waiting jobs be
-- read once; containment looked for each organization's by itself.
SELECT o.id, (o.cell_id IS NOT NULL)::bool AS placed
FROM organization o
LEFT JOIN provisioning_lease l ON l.organization_id = o.id
WHERE o.state = 'provisioning' AND (o.cell_id = @cell_id OR o.cell_id IS NULL)
  AND coalesce(l.until, o.updated_at + interval '30 seconds') < now()
  AND NOT EXISTS (
      SELECT 1 FROM river_job j
      WHERE j.kind = 'provision' AND j.state IN ('available', 'scheduled', 'retryable', 'pending')
        AND j.args ->> 'organization_id' = o.id::text)
ORDER BY o.id
LIMIT 100;

-- name: ProvisionedTenants :many
-- Those of a cell whose tables were made.
SELECT o.id
FROM organization o
JOIN provisioning_step s ON s.organization_id = o.id AND s.step = @step AND s.state = 'done'
WHERE o.cell_id = @cell_id AND o.state <> 'closed'
ORDER BY o.id;

-- name: CellAdd :exec
INSERT INTO cell (id) VALUES (@id) ON CONFLICT ON CONSTRAINT cell_pk DO NOTHING;

-- name: GateDecision :one
SELECT gate_mode, gate_version, gate_applied, cell_id FROM organization WHERE id = @id;

-- name: GateApplied :exec
UPDATE organization SET gate_applied = @version WHERE id = @id AND gate_applied < @version;

-- name: GatesPending :many
-- Decided a while ago and not applied: the job that should have is lost or slow. What
-- is to be closed comes first, and else nobody: some that can never be applied must not
-- keep others out.
SELECT id, gate_version FROM organization
WHERE cell_id = @cell_id AND gate_applied < gate_version AND updated_at < now() - make_interval(secs => @seconds::float8)
ORDER BY gate_mode <> 'closed', random()
LIMIT 100;

-- name: GateRaise :execrows
-- The same decision under a version above the one that its cell has.
UPDATE organization SET gate_version = @version, updated_at = now() WHERE id = @id AND gate_version < @version;

-- name: GateVersions :many
SELECT id, gate_version FROM organization WHERE cell_id = @cell_id;

-- name: HeartbeatSet :exec
INSERT INTO heartbeat (name, at, detail) VALUES (@name, now(), @detail)
ON CONFLICT ON CONSTRAINT heartbeat_pk DO UPDATE SET at = now(), detail = excluded.detail;

-- name: CensusAccounts :many
-- Every account with its organization: its identity lies in the identity server.
SELECT a.identity_id, o.slug
FROM account a JOIN organization o ON o.id = a.organization_id
ORDER BY a.identity_id;

-- name: CensusOrganizations :many
-- Everybody, for a key or a prefix may lie beside those of another cell.
SELECT o.id, o.slug, o.state, coalesce(o.cell_id, '') AS cell,
       (SELECT count(*) FROM provisioning_step s WHERE s.organization_id = o.id AND s.state <> 'done')::int AS unfinished
FROM organization o
ORDER BY o.id;

-- name: CensusRoutes :many
-- What each organization's route rests on, and where it must lead.
SELECT o.id, o.slug, o.state, o.key_alive, coalesce(o.cell_id, '') AS cell,
       b.id AS baa_id, b.state AS baa_state, b.executed_at, b.expires_at
FROM organization o
LEFT JOIN baa b ON b.organization_id = o.id AND b.state = 'executed'
ORDER BY o.id;
