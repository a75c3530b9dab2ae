-- +goose Up
-- What all tenants of a cell share: the signed request context, the sealed
-- credentials and the signals to the workers. Owned by cell_owner; a tenant's
-- login role may call the context functions and read nothing.
-- Roles cell_owner, cell_worker and cell_sealer are made by the bootstrap.

CREATE SCHEMA IF NOT EXISTS cell;
REVOKE ALL ON SCHEMA cell FROM PUBLIC;
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
-- expired one is an error, never an empty answer.
-- +goose StatementBegin
CREATE FUNCTION cell.context(OUT kind text, OUT actor uuid, OUT member_role text,
                             OUT session uuid, OUT facilities uuid[])
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    raw  text := current_setting('caresphere.context', true);
    body text;
    mac  text;
    part text[];
    k    cell.context_key;
BEGIN
    IF raw IS NULL OR raw = '' THEN
        RETURN;
    END IF;
    mac  := substring(raw FROM '\|([0-9a-f]{64})$');
    body := substring(raw FROM '^(.*)\|[0-9a-f]{64}$');
    part := string_to_array(body, '|');
    IF mac IS NULL OR array_length(part, 1) IS DISTINCT FROM 9 OR part[1] <> 'v1' THEN
        RAISE EXCEPTION 'request context is malformed' USING ERRCODE = 'CS001';
    END IF;
    SELECT * INTO k FROM cell.context_key WHERE role_name = session_user;
    IF NOT FOUND
       OR encode(sha256(k.outer_block || sha256(k.inner_block || convert_to(body, 'UTF8'))), 'hex') <> mac
       OR part[2] <> session_user
       OR part[3]::int <> pg_backend_pid()
       OR part[4]::bigint < extract(epoch FROM clock_timestamp()) * 1000 THEN
        RAISE EXCEPTION 'request context is not valid here' USING ERRCODE = 'CS001';
    END IF;
    kind        := part[5];
    actor       := nullif(part[6], '')::uuid;
    member_role := nullif(part[7], '');
    session     := nullif(part[8], '')::uuid;
    facilities  := string_to_array(nullif(part[9], ''), ',')::uuid[];
END
$$;
-- +goose StatementEnd

CREATE FUNCTION cell.ctx_kind() RETURNS text LANGUAGE sql STABLE AS 'SELECT kind FROM cell.context()';
CREATE FUNCTION cell.ctx_actor() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT actor FROM cell.context()';
CREATE FUNCTION cell.ctx_role() RETURNS text LANGUAGE sql STABLE AS 'SELECT member_role FROM cell.context()';
CREATE FUNCTION cell.ctx_session() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT session FROM cell.context()';
CREATE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE sql STABLE AS 'SELECT facilities FROM cell.context()';

-- Append-only tables refuse change for everybody, their owner included.
-- +goose StatementBegin
CREATE FUNCTION cell.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'CS002';
END
$$;
-- +goose StatementEnd
