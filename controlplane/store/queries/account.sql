-- name: CreateAccount :exec
INSERT INTO account (identity_id, organization_id, email, name, first_owner)
VALUES (@identity_id, @organization_id, @email, @name, @first_owner);

-- name: AccountByIdentity :one
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at,
       role, member_version, owner
FROM account WHERE identity_id = @identity_id;

-- name: AccountByEmail :one
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at,
       role, member_version, owner
FROM account WHERE email = @email;

-- name: LockAccountByEmail :one
-- The account of an address, which nobody proves or removes until the transaction
-- ends, and whether it gives way: nobody proved the address, and its organization is
-- a sign-up that nobody confirmed, or is closed.
SELECT a.identity_id, a.organization_id, o.state,
       (a.email_verified_at IS NULL AND (o.state = 'closed' OR o.state = 'pending' AND o.sign_up_lapses_at IS NOT NULL))::boolean AS gives_way
FROM account a JOIN organization o ON o.id = a.organization_id
WHERE a.email = @email FOR UPDATE OF a;

-- name: WithdrawAccount :one
SELECT withdraw_account(@identity_id);

-- name: MarkAccountVerified :one
-- The first proof of an address is also what confirms a sign-up.
WITH verified AS (
    UPDATE account SET email_verified_at = now() WHERE identity_id = @identity_id AND email_verified_at IS NULL
    RETURNING organization_id),
confirmed AS (
    UPDATE organization o SET sign_up_lapses_at = NULL FROM verified v
    WHERE o.id = v.organization_id AND o.sign_up_lapses_at IS NOT NULL AND o.state = 'pending' RETURNING o.id)
SELECT count(*) FROM verified;

-- name: MarkAccountReady :execrows
UPDATE account SET ready_at = now() WHERE identity_id = @identity_id AND ready_at IS NULL;

-- name: ListAccounts :many
SELECT identity_id, organization_id, email, name, first_owner, email_verified_at, ready_at, invited_at, disabled_at,
       role, member_version, owner
FROM account WHERE organization_id = @organization_id ORDER BY invited_at, identity_id;

-- name: ProvisionerSeen :one
-- How long ago the provisioner last showed itself, in seconds.
SELECT extract(epoch FROM now() - at)::float8 AS seconds FROM heartbeat WHERE name = 'provisioner';

-- name: LockAccount :one
SELECT organization_id, member_version, owner, disabled_at
FROM account WHERE identity_id = @identity_id
FOR UPDATE;

-- name: SetStanding :one
UPDATE account
SET role = @role, member_version = @version,
    disabled_at = CASE WHEN @active::boolean THEN NULL ELSE coalesce(disabled_at, now()) END
WHERE identity_id = @identity_id
RETURNING owner, disabled_at;
