-- +goose Up
-- A sign-up that nobody confirmed keeps its address and its short name from others
-- until it lapses, and no longer. sign_up_lapses_at is taken away with the first
-- proof of an address; sign_up_address is a keyed hash, by which another sign-up of
-- the same address finds the earlier ones, also those that never had an account.
ALTER TABLE organization ADD COLUMN sign_up_lapses_at timestamptz, ADD COLUMN sign_up_address text;
CREATE INDEX organization_sign_up_lapses ON organization (sign_up_lapses_at) WHERE sign_up_lapses_at IS NOT NULL;
CREATE INDEX organization_sign_up_address ON organization (sign_up_address) WHERE sign_up_lapses_at IS NOT NULL;

-- Those that are open now have as long as a new one.
UPDATE organization o SET sign_up_lapses_at = now() + interval '48 hours'
WHERE (o.state = 'closed' AND o.state_reason = 'the address has an account')
   OR (o.state = 'pending' AND NOT EXISTS (SELECT FROM account a WHERE a.organization_id = o.id AND a.email_verified_at IS NOT NULL));

-- The one way for the control plane to remove an account: nobody ever proved its address.
-- +goose StatementBegin
CREATE FUNCTION withdraw_account(identity uuid) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM public.account WHERE identity_id = identity AND email_verified_at IS NULL RETURNING 1)
    SELECT count(*) = 1 FROM gone
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION withdraw_account(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION withdraw_account(uuid) TO controlplane;

-- +goose Down
DROP FUNCTION withdraw_account(uuid);
DROP INDEX organization_sign_up_address, organization_sign_up_lapses;
ALTER TABLE organization DROP COLUMN sign_up_address, DROP COLUMN sign_up_lapses_at;
