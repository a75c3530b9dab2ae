-- name: CreateAccount :exec
INSERT INTO account (identity_id, organization_id, email, name, first_owner)
VALUES (@identity_id, @organization_id, @email, @name, @first_owner);

-- name: AccountByIdentity :one
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at
FROM account WHERE identity_id = @identity_id;

-- name: AccountByEmail :one
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at
FROM account WHERE email = @email;

-- name: MarkAccountVerified :execrows
UPDATE account SET email_verified_at = now() WHERE identity_id = @identity_id AND email_verified_at IS NULL;

-- name: MarkAccountReady :execrows
UPDATE account SET ready_at = now() WHERE identity_id = @identity_id AND ready_at IS NULL;

-- name: ListAccounts :many
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at
FROM account WHERE organization_id = @organization_id ORDER BY invited_at, identity_id;

-- name: ProvisionerSeen :one
-- How long ago the provisioner last showed itself, in seconds.
SELECT extract(epoch FROM now() - at)::float8 AS seconds FROM heartbeat WHERE name = 'provisioner';
