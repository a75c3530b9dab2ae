-- +goose Up
-- +goose StatementBegin
-- The audit trail of one tenant and what seals it (45 CFR 164.312(b)). Runs with
-- search_path = the tenant's schema, as cell_owner, with caresphere.tenant_role
-- set to the login role. Everything here is insert-only.

CREATE TABLE audit_entry (
    seq         bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_entry_pk PRIMARY KEY,
    -- The sealer waits for every transaction below a bound to end, by this column.
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_role     name        NOT NULL DEFAULT session_user,
    id          uuid        NOT NULL CONSTRAINT audit_entry_id UNIQUE,
    -- The patterns below count nothing: a counted pattern takes PostgreSQL longer to
    -- match than all indexes of this table take to write.
    -- Who acts comes from the verified context by a trigger: the login role may not
    -- write these four.
    actor_kind  text        NOT NULL CONSTRAINT audit_entry_actor_kind CHECK (actor_kind IN ('member', 'operator', 'system', 'anonymous')),
    actor_id    uuid,
    role        text        NOT NULL,
    session_id  uuid,
    facility_id uuid,
    action      text        NOT NULL CONSTRAINT audit_entry_action CHECK (octet_length(action) <= 64 AND action ~ '^[a-z]' AND action !~ '[^a-z0-9_.]'),
    record_type text        NOT NULL CONSTRAINT audit_entry_record_type CHECK (octet_length(record_type) <= 64 AND record_type !~ '[^a-z0-9_.]'),
    record_id   text        NOT NULL CONSTRAINT audit_entry_record_id CHECK (octet_length(record_id) <= 128 AND record_id !~ '[^A-Za-z0-9_.:-]'),
    outcome     text        NOT NULL CONSTRAINT audit_entry_outcome CHECK (outcome IN ('ok', 'denied', 'failed')),
    ip          text        NOT NULL CONSTRAINT audit_entry_ip CHECK (octet_length(ip) <= 64),
    device      text        NOT NULL CONSTRAINT audit_entry_device CHECK (octet_length(device) <= 200),
    request_id  text        NOT NULL CONSTRAINT audit_entry_request CHECK (octet_length(request_id) <= 128),
    -- Strings by name, small, never PHI.
    detail      jsonb       NOT NULL CONSTRAINT audit_entry_detail CHECK (detail = '{}' OR
        jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 4096
        AND NOT jsonb_path_exists(detail, '$.* ? (@.type() != "string")'))
);
CREATE INDEX audit_entry_by_xid ON audit_entry (xid);
CREATE INDEX audit_entry_by_time ON audit_entry (at, seq);
CREATE INDEX audit_entry_by_actor ON audit_entry (actor_id, at, seq);
CREATE INDEX audit_entry_by_action ON audit_entry (action, at, seq);
CREATE INDEX audit_entry_by_record ON audit_entry (record_id, at, seq) WHERE record_id <> '';
CREATE INDEX audit_entry_by_facility ON audit_entry (facility_id, at, seq) WHERE facility_id IS NOT NULL;
CREATE INDEX audit_entry_by_outcome ON audit_entry (outcome, at, seq) WHERE outcome <> 'ok';

-- One look at the context an entry: as column defaults it would be four, each
-- with its own check of the signature, which costs more than the insert itself.
CREATE FUNCTION audit_stamp_actor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c record := cell.context();
BEGIN
    NEW.actor_kind := c.kind;
    NEW.actor_id   := c.actor;
    NEW.role       := coalesce(c.member_role, '');
    NEW.session_id := c.session;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_entry_actor BEFORE INSERT ON audit_entry
    FOR EACH ROW WHEN (NEW.actor_kind IS NULL) EXECUTE FUNCTION audit_stamp_actor();

-- A new epoch begins after a logical restore: the log goes on from start_size
-- under an origin of its own, and entries up to min_seq are no longer looked for.
CREATE TABLE audit_epoch (
    epoch      int         CONSTRAINT audit_epoch_pk PRIMARY KEY CONSTRAINT audit_epoch_positive CHECK (epoch > 0),
    start_size bigint      NOT NULL,
    min_seq    bigint      NOT NULL,
    reason     text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO audit_epoch (epoch, start_size, min_seq, reason) VALUES (1, 0, 0, 'first');

-- Which entry is which leaf of the Merkle tree (RFC 6962), with the leaf's hash.
-- No foreign key: sealing 100,000 entries a second does not afford one, and a
-- missing entry is found by its hash.
CREATE TABLE audit_leaf (
    leaf_index bigint CONSTRAINT audit_leaf_pk PRIMARY KEY,
    seq        bigint NOT NULL CONSTRAINT audit_leaf_seq UNIQUE,
    hash       bytea  NOT NULL CONSTRAINT audit_leaf_hash CHECK (octet_length(hash) = 32)
);

-- The tree's inner nodes by tlog's stored hash index; leaves stand in audit_leaf.
CREATE TABLE audit_hash (
    hash_index bigint CONSTRAINT audit_hash_pk PRIMARY KEY,
    hash       bytea  NOT NULL CONSTRAINT audit_hash_hash CHECK (octet_length(hash) = 32)
);

-- Signed tree heads. The key makes two roots of one size impossible. The xid
-- window says what was sealed: everything below xid_from, and of [xid_from,
-- xid_to) everything up to last_seq, or all of it once window_done.
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

DO $$
DECLARE
    tenant text := current_setting('caresphere.tenant_role');
    t      text;
BEGIN
    FOREACH t IN ARRAY ARRAY['audit_entry', 'audit_epoch', 'audit_leaf', 'audit_hash', 'audit_checkpoint'] LOOP
        -- ALWAYS: not even a session that plays a replica changes what is written.
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION cell.refuse_change()', t || '_append_only', t);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER %I', t, t || '_append_only');
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY %I ON %I FOR SELECT TO %I
                        USING ((SELECT cell.ctx_role()) IN (''owner'', ''auditor'') OR (SELECT cell.ctx_kind()) = ''system'')',
                       t || '_select', t, tenant);
        EXECUTE format('GRANT SELECT ON %I TO %I', t, tenant);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO cell_sealer', t);
    END LOOP;
    REVOKE INSERT ON audit_entry FROM cell_sealer;
    -- For FOR UPDATE only: the sealer is single by a lock on its epoch's row, which
    -- no tenant can take, as it could an advisory one. The trigger refuses a change.
    GRANT UPDATE (reason) ON audit_epoch TO cell_sealer;
    -- Checked after the trigger: without a valid context there is no kind.
    EXECUTE format('CREATE POLICY audit_entry_insert ON audit_entry FOR INSERT TO %I
                    WITH CHECK (actor_kind IS NOT NULL)', tenant);
    EXECUTE format('GRANT INSERT (id, facility_id, action, record_type, record_id, outcome, ip, device, request_id, detail)
                    ON audit_entry TO %I', tenant);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO cell_sealer', current_schema());
END
$$;
-- +goose StatementEnd
