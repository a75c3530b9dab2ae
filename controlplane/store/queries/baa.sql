-- name: BAALockOrganization :one
-- Every change of an agreement begins here: it orders all that happens to one
-- organization.
SELECT id, slug, legal_name, care_setting, state, cell_id
FROM organization
WHERE id = @id
FOR UPDATE;

-- name: BAASigner :one
SELECT identity_id, organization_id, email, name, owner
FROM account
WHERE identity_id = @identity_id;

-- name: BAAInsertDraft :exec
INSERT INTO baa (id, organization_id, template_version, document, document_sha256, term_months, created_at)
VALUES (@id, @organization_id, @template_version, @document, @document_sha256, @term_months, @created_at);

-- name: BAAGet :one
SELECT id, organization_id, state, template_version, document, document_sha256, customer_evidence, operator_evidence,
       signed_at, executed_at, expires_at, ended_at, ended_reason, term_months, created_at
FROM baa
WHERE id = @id;

-- name: BAALock :one
SELECT id, organization_id, state, template_version, document, document_sha256, customer_evidence, operator_evidence,
       signed_at, executed_at, expires_at, ended_at, ended_reason, term_months, created_at
FROM baa
WHERE id = @id AND organization_id = @organization_id
FOR UPDATE;

-- name: BAAListByOrganization :many
SELECT id, organization_id, state, template_version, document_sha256, signed_at, executed_at, expires_at, ended_at,
       ended_reason, term_months, created_at
FROM baa
WHERE organization_id = @organization_id
ORDER BY created_at DESC, id DESC;

-- name: BAALockUnfinished :many
-- Those that wait for a signature.
SELECT id, state, template_version, term_months
FROM baa
WHERE organization_id = @organization_id AND state IN ('draft', 'signed')
ORDER BY created_at DESC, id DESC
FOR UPDATE;

-- name: BAALockExecuted :many
SELECT id, expires_at
FROM baa
WHERE organization_id = @organization_id AND state = 'executed' AND id <> @except_id
FOR UPDATE;

-- name: BAASetSigned :execrows
UPDATE baa
SET state = 'signed', customer_evidence = @customer_evidence, signed_at = @signed_at
WHERE id = @id AND state = 'draft';

-- name: BAASetExecuted :execrows
UPDATE baa
SET state = 'executed', operator_evidence = @operator_evidence, pdf = @pdf, bundle = @bundle,
    executed_at = @executed_at, expires_at = @expires_at
WHERE id = @id AND state = 'signed';

-- name: BAAEnd :execrows
UPDATE baa
SET state = @new_state, ended_at = @ended_at, ended_reason = @ended_reason
WHERE id = @id AND state = @old_state;

-- name: BAAMoveOrganization :execrows
UPDATE organization
SET state = @new_state, state_reason = '', updated_at = now()
WHERE id = @id AND state = @old_state;

-- name: BAAFile :one
SELECT organization_id, pdf, bundle
FROM baa
WHERE id = @id;

-- name: BAADue :many
SELECT id, organization_id
FROM baa
WHERE state = 'executed' AND expires_at <= @now
ORDER BY expires_at
LIMIT 100;
