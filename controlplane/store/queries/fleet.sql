-- name: FleetLock :one
SELECT id, slug, legal_name, state, cell_id, placement_epoch
FROM organization
WHERE id = @id
FOR UPDATE;

-- name: FleetMove :execrows
UPDATE organization
SET state = @new_state, state_reason = @reason, updated_at = now()
WHERE id = @id AND state = @old_state;

-- name: FleetList :many
-- One row an organization, with its newest agreement and an owner, the first if she still is.
SELECT o.id, o.slug, o.legal_name, o.care_setting, o.state, o.state_reason, o.cell_id, o.placement_epoch, o.key_alive,
       o.gate_mode, o.gate_reason, o.gate_until, o.gate_version, o.gate_applied, o.created_at, o.updated_at,
       coalesce(b.id, '00000000-0000-0000-0000-000000000000')::uuid AS baa_id, coalesce(b.state, '') AS baa_state, b.expires_at AS baa_expires_at,
       coalesce(a.email, '') AS owner_email, coalesce(s.plan, '') AS plan, coalesce(s.status, '') AS subscription_status
FROM organization o
LEFT JOIN LATERAL (
    SELECT id, state, expires_at FROM baa
    WHERE baa.organization_id = o.id
    ORDER BY (state = 'executed') DESC, created_at DESC, id DESC LIMIT 1) b ON true
LEFT JOIN LATERAL (
    SELECT email FROM account
    WHERE account.organization_id = o.id AND owner
    ORDER BY first_owner DESC, invited_at LIMIT 1) a ON true
LEFT JOIN subscription s ON s.organization_id = o.id
WHERE (sqlc.narg(only_id)::uuid IS NULL OR o.id = sqlc.narg(only_id))
  AND (@search::text = '' OR position(lower(@search) IN o.slug) > 0 OR position(lower(@search) IN lower(o.legal_name)) > 0)
  AND (@state::text = '' OR o.state = @state)
  AND (sqlc.narg(before_id)::uuid IS NULL OR o.id < sqlc.narg(before_id))
ORDER BY o.id DESC
LIMIT @page;

-- name: FleetSteps :many
SELECT step, position, state, attempt, reason, started_at, finished_at
FROM provisioning_step
WHERE organization_id = @organization_id
ORDER BY position, step;

-- name: FleetAccount :one
SELECT identity_id, organization_id, owner, disabled_at
FROM account
WHERE identity_id = @identity_id;
