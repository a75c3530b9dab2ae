-- +goose Up
-- The audit trail of the control plane and what seals it: the tenant's trail of
-- migrations/tenant/0002_audit.sql, with the actor written by the application and
-- the organization in place of the facility. Everything here is insert-only.

CREATE TABLE audit_entry (
    seq             bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_entry_pk PRIMARY KEY,
    xid             xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_role         name        NOT NULL DEFAULT session_user,
    id              uuid        NOT NULL CONSTRAINT audit_entry_id UNIQUE,
    actor_kind      text        NOT NULL CONSTRAINT audit_entry_actor_kind CHECK (actor_kind IN ('member', 'operator', 'system', 'anonymous')),
    actor_id        uuid,
    role            text        NOT NULL CONSTRAINT audit_entry_role CHECK (role ~ '^[a-z_]{0,64}$'),
    session_id      uuid,
    organization_id uuid,
    action          text        NOT NULL CONSTRAINT audit_entry_action CHECK (action ~ '^[a-z][a-z0-9_.]{0,63}$'),
    record_type     text        NOT NULL CONSTRAINT audit_entry_record_type CHECK (record_type ~ '^[a-z0-9_.]{0,64}$'),
    record_id       text        NOT NULL CONSTRAINT audit_entry_record_id CHECK (record_id ~ '^[A-Za-z0-9_.:-]{0,128}$'),
    outcome         text        NOT NULL CONSTRAINT audit_entry_outcome CHECK (outcome IN ('ok', 'denied', 'failed')),
    ip              text        NOT NULL CONSTRAINT audit_entry_ip CHECK (octet_length(ip) <= 64),
    device          text        NOT NULL CONSTRAINT audit_entry_device CHECK (octet_length(device) <= 200),
    request_id      text        NOT NULL CONSTRAINT audit_entry_request CHECK (octet_length(request_id) <= 128),
    detail          jsonb       NOT NULL CONSTRAINT audit_entry_detail CHECK (
        jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 4096
        AND NOT jsonb_path_exists(detail, '$.* ? (@.type() != "string")'))
);
CREATE INDEX audit_entry_by_xid ON audit_entry (xid);
CREATE INDEX audit_entry_by_time ON audit_entry (at, seq);
CREATE INDEX audit_entry_by_actor ON audit_entry (actor_id, at, seq);
CREATE INDEX audit_entry_by_action ON audit_entry (action, at, seq);
CREATE INDEX audit_entry_by_record ON audit_entry (record_id, at, seq) WHERE record_id <> '';
CREATE INDEX audit_entry_by_organization ON audit_entry (organization_id, at, seq) WHERE organization_id IS NOT NULL;
CREATE INDEX audit_entry_by_outcome ON audit_entry (outcome, at, seq) WHERE outcome <> 'ok';

CREATE TABLE audit_epoch (
    epoch      int         CONSTRAINT audit_epoch_pk PRIMARY KEY CONSTRAINT audit_epoch_positive CHECK (epoch > 0),
    start_size bigint      NOT NULL,
    min_seq    bigint      NOT NULL,
    reason     text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO audit_epoch (epoch, start_size, min_seq, reason) VALUES (1, 0, 0, 'first');

CREATE TABLE audit_leaf (
    leaf_index bigint CONSTRAINT audit_leaf_pk PRIMARY KEY,
    seq        bigint NOT NULL CONSTRAINT audit_leaf_seq UNIQUE,
    hash       bytea  NOT NULL CONSTRAINT audit_leaf_hash CHECK (octet_length(hash) = 32)
);

CREATE TABLE audit_hash (
    hash_index bigint CONSTRAINT audit_hash_pk PRIMARY KEY,
    hash       bytea  NOT NULL CONSTRAINT audit_hash_hash CHECK (octet_length(hash) = 32)
);

CREATE TABLE audit_checkpoint (
    epoch       int         NOT NULL CONSTRAINT audit_checkpoint_epoch REFERENCES audit_epoch,
    tree_size   bigint      NOT NULL CONSTRAINT audit_checkpoint_size CHECK (tree_size > 0),
    root        bytea       NOT NULL CONSTRAINT audit_checkpoint_root CHECK (octet_length(root) = 32),
    note        text        NOT NULL,
    xid_from    xid8        NOT NULL,
    xid_to      xid8        NOT NULL,
    last_seq    bigint      NOT NULL,
    window_done boolean     NOT NULL,
    sealed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT audit_checkpoint_pk PRIMARY KEY (epoch, tree_size)
);

-- +goose StatementBegin
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'CS002';
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    -- The anchors of all logs are as final as what they speak of.
    FOREACH t IN ARRAY ARRAY['audit_entry', 'audit_epoch', 'audit_leaf', 'audit_hash', 'audit_checkpoint', 'audit_anchor'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()', t || '_append_only', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', t, t || '_append_only');
    END LOOP;
END
$$;
-- +goose StatementEnd

GRANT SELECT ON audit_entry, audit_epoch, audit_leaf, audit_hash, audit_checkpoint TO controlplane, provisioner;
GRANT INSERT (id, actor_kind, actor_id, role, session_id, organization_id, action, record_type, record_id, outcome,
              ip, device, request_id, detail) ON audit_entry TO controlplane, provisioner;
-- The provisioner runs the sealer.
GRANT INSERT ON audit_epoch, audit_leaf, audit_hash, audit_checkpoint TO provisioner;
-- For FOR UPDATE only: the sealer is single by a lock on its epoch's row.
GRANT UPDATE (reason) ON audit_epoch TO provisioner;
