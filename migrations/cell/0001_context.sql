-- +goose Up
-- What all tenants of a cell share: the signed request context, the sealed
-- credentials and the signals to the workers. Owned by cell_owner; a tenant's
-- login role may call the context functions and read nothing.
-- Roles cell_owner, cell_worker and cell_sealer are made by the bootstrap, which
-- also runs hardening.sql: what only a superuser may revoke stands there.

-- Whatever cell_owner makes from here on, in any schema, starts closed: a
-- function that a tenant may call says so.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;

CREATE SCHEMA IF NOT EXISTS cell;
REVOKE ALL ON SCHEMA cell FROM PUBLIC;
-- To PUBLIC and not role by role: a tenant's role is a member of nothing, and an
-- access list of ten thousand names is slow to check and to change.
GRANT USAGE ON SCHEMA cell TO PUBLIC;

-- One key a tenant role, as the two padded HMAC blocks (RFC 2104), so that
-- verifying needs only the built-in sha256().
CREATE TABLE cell.context_key (
    role_name   name        CONSTRAINT context_key_pk PRIMARY KEY,
    inner_block bytea       NOT NULL CONSTRAINT context_key_inner_64 CHECK (length(inner_block) = 64),
    outer_block bytea       NOT NULL CONSTRAINT context_key_outer_64 CHECK (length(outer_block) = 64),
    created_at  timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON cell.context_key FROM PUBLIC;

-- What a worker needs to log in as a tenant: a client certificate in clear, its
-- key and the context key sealed under the tenant's key in the KMS.
CREATE TABLE cell.tenant_credential (
    tenant_id       uuid        CONSTRAINT tenant_credential_pk PRIMARY KEY,
    role_name       name        NOT NULL CONSTRAINT tenant_credential_role UNIQUE,
    key_name        text        NOT NULL,
    certificate     bytea       NOT NULL,
    wrapped_key     bytea       NOT NULL,
    data_key_id     uuid        NOT NULL,
    sealed          bytea       NOT NULL,
    not_after       timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON cell.tenant_credential FROM PUBLIC;
GRANT SELECT ON cell.tenant_credential TO cell_worker;

-- The context of a request, set by the worker for one transaction:
--   v1|role|backend pid|expiry ms|kind|actor|member role|session|facility,facility|hmac hex
-- A missing context yields nulls, which no policy matches. A forged, foreign or
-- expired one is an error, never an empty answer. The key is looked up by
-- session_user, which nothing that a tenant's role may run can change.
-- +goose StatementBegin
CREATE FUNCTION cell.context(OUT kind text, OUT actor uuid, OUT member_role text,
                             OUT session uuid, OUT facilities uuid[])
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    raw  text := current_setting('caresphere.context', true);
    body text;
    part text[];
    k    cell.context_key;
BEGIN
    IF raw IS NULL OR raw = '' THEN
        RETURN;
    END IF;
    IF raw !~ '\|[0-9a-f]{64}$' THEN
        RAISE EXCEPTION 'request context is malformed' USING ERRCODE = 'CS001';
    END IF;
    body := left(raw, -65);
    SELECT ck.* INTO k FROM cell.context_key ck WHERE ck.role_name = session_user;
    IF NOT FOUND
       OR encode(sha256(k.outer_block || sha256(k.inner_block || convert_to(body, 'UTF8'))), 'hex') <> right(raw, 64) THEN
        RAISE EXCEPTION 'request context is not valid here' USING ERRCODE = 'CS001';
    END IF;
    -- From here on the words are the worker's own.
    part := string_to_array(body, '|');
    IF array_length(part, 1) IS DISTINCT FROM 9 OR part[1] <> 'v1'
       OR part[2] <> session_user
       OR part[3]::int <> pg_backend_pid()
       OR part[4]::bigint < extract(epoch FROM clock_timestamp()) * 1000
       OR part[5] NOT IN ('member', 'lookup', 'system') THEN
        RAISE EXCEPTION 'request context is not valid here' USING ERRCODE = 'CS001';
    END IF;
    kind    := part[5];
    actor   := nullif(part[6], '')::uuid;
    session := nullif(part[8], '')::uuid;
    -- Only a member has a role and facilities: a lookup or the worker itself has none.
    IF kind = 'member' THEN
        member_role := nullif(part[7], '');
        facilities  := string_to_array(nullif(part[9], ''), ',')::uuid[];
    END IF;
END
$$;
-- +goose StatementEnd

CREATE FUNCTION cell.ctx_kind() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT kind FROM cell.context()';
CREATE FUNCTION cell.ctx_actor() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT actor FROM cell.context()';
CREATE FUNCTION cell.ctx_role() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT member_role FROM cell.context()';
CREATE FUNCTION cell.ctx_session() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT session FROM cell.context()';
CREATE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT facilities FROM cell.context()';
GRANT EXECUTE ON FUNCTION cell.context(), cell.ctx_kind(), cell.ctx_actor(), cell.ctx_role(), cell.ctx_session(), cell.ctx_facilities() TO PUBLIC;

-- Append-only tables refuse change for everybody, their owner included.
-- +goose StatementBegin
CREATE FUNCTION cell.refuse_change() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'CS002';
END
$$;
-- +goose StatementEnd

-- Raises a member's authz_version when an assignment or a grant of theirs
-- changes. It runs as cell_owner, because no tenant role may write that column,
-- and only as a trigger: the member table lets cell_owner in at trigger depth.
-- +goose StatementBegin
CREATE FUNCTION cell.bump_authz_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    who uuid := CASE WHEN TG_OP = 'DELETE' THEN OLD.identity_id ELSE NEW.identity_id END;
BEGIN
    EXECUTE format('UPDATE %I.member SET authz_version = authz_version + 1 WHERE identity_id = $1', TG_TABLE_SCHEMA) USING who;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP SCHEMA cell CASCADE;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
