-- +goose Up
-- +goose StatementBegin
-- The administrative core of one tenant. Like each of a tenant's migrations it is one
-- statement for goose: one round trip, not a hundred. Runs with search_path = the tenant's
-- schema, as cell_owner, with caresphere.tenant_role set to the login role.
-- Every table has row-level security enabled and forced; a policy per command;
-- what has no policy is refused. The kinds of context (cell.context):
--   member  a person whose role and facilities the worker has established
--   lookup  a person about to be established: actor and session, nothing more
--   system  the worker's own bookkeeping: data keys, the probe
-- Only an owner's context changes who may do what: SQL that slips into a nurse's
-- connection cannot widen her scope.

CREATE TABLE tenant_setting (
    tenant_id              uuid CONSTRAINT tenant_setting_pk PRIMARY KEY,
    slug                   text NOT NULL,
    legal_name             text NOT NULL,
    care_setting           text NOT NULL CONSTRAINT tenant_setting_care CHECK (care_setting IN ('residential', 'clinic')),
    idle_timeout_seconds   int  NOT NULL DEFAULT 900   CONSTRAINT tenant_setting_idle CHECK (idle_timeout_seconds BETWEEN 60 AND 3600),
    session_max_seconds    int  NOT NULL DEFAULT 43200 CONSTRAINT tenant_setting_max CHECK (session_max_seconds BETWEEN 300 AND 86400),
    singleton              boolean NOT NULL DEFAULT true CONSTRAINT tenant_setting_one UNIQUE CONSTRAINT tenant_setting_singleton CHECK (singleton)
);

CREATE TABLE facility (
    id          uuid        CONSTRAINT facility_pk PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT facility_name_length CHECK (length(name) BETWEEN 1 AND 200),
    timezone    text        NOT NULL DEFAULT 'UTC',
    version     bigint      NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT facility_name_unique UNIQUE (name)
);

CREATE TABLE member (
    identity_id   uuid        CONSTRAINT member_pk PRIMARY KEY,
    email         text        NOT NULL CONSTRAINT member_email UNIQUE,
    name          text        NOT NULL,
    role          text        NOT NULL CONSTRAINT member_role CHECK (role IN ('owner', 'nurse', 'med_tech', 'prescriber', 'staff', 'auditor', 'front_desk', 'medical_assistant', 'provider', 'ownership')),
    status        text        NOT NULL DEFAULT 'active' CONSTRAINT member_status CHECK (status IN ('active', 'disabled')),
    -- Raised by triggers whenever the role, the status, an assignment or a grant
    -- changes: a worker that decided with an older version decides again.
    authz_version bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE member_facility (
    identity_id uuid        NOT NULL CONSTRAINT member_facility_member REFERENCES member,
    facility_id uuid        NOT NULL CONSTRAINT member_facility_facility REFERENCES facility,
    assigned_by uuid        NOT NULL DEFAULT cell.ctx_actor(),
    assigned_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT member_facility_pk PRIMARY KEY (identity_id, facility_id)
);

-- A cross-facility grant: explicit, reasoned, and it may expire.
CREATE TABLE facility_grant (
    id          uuid        CONSTRAINT facility_grant_pk PRIMARY KEY,
    identity_id uuid        NOT NULL CONSTRAINT facility_grant_member REFERENCES member,
    facility_id uuid        NOT NULL CONSTRAINT facility_grant_facility REFERENCES facility,
    reason      text        NOT NULL CONSTRAINT facility_grant_reason CHECK (length(reason) BETWEEN 1 AND 500),
    granted_by  uuid        NOT NULL DEFAULT cell.ctx_actor(),
    granted_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz CONSTRAINT facility_grant_future CHECK (expires_at > granted_at),
    revoked_at  timestamptz,
    revoked_by  uuid
);
CREATE INDEX facility_grant_by_member ON facility_grant (identity_id);

-- Our own record of a Kratos session: what idle timeout and revocation stand on.
CREATE TABLE member_session (
    session_id  uuid        CONSTRAINT member_session_pk PRIMARY KEY,
    identity_id uuid        NOT NULL,
    ip          text        NOT NULL,
    device      text        NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now(),
    last_seen   timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    revoked_by  uuid
);
CREATE INDEX member_session_by_member ON member_session (identity_id);

-- Data keys, wrapped by the tenant's key in the KMS.
CREATE TABLE data_key (
    id          uuid        CONSTRAINT data_key_pk PRIMARY KEY,
    purpose     text        NOT NULL,
    wrapped     bytea       NOT NULL,
    kms_version int         NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_key_newest ON data_key (purpose, created_at DESC);

CREATE TABLE probe (
    id       uuid CONSTRAINT probe_pk PRIMARY KEY,
    sealed   bytea NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT now()
);

-- What a POST with an Idempotency-Key made, so that its repeat answers the same.
CREATE TABLE idempotency_key (
    actor        uuid        NOT NULL DEFAULT cell.ctx_actor(),
    key          text        NOT NULL,
    operation    text        NOT NULL,
    request_hash bytea       NOT NULL,
    record_id    uuid        NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_key_pk PRIMARY KEY (actor, key)
);

-- A facility's version counts its changes.
CREATE FUNCTION facility_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER facility_touch BEFORE UPDATE ON facility FOR EACH ROW EXECUTE FUNCTION facility_touch();

-- A change of role or status counts as a change of what the member may do.
CREATE FUNCTION member_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.role <> OLD.role OR NEW.status <> OLD.status THEN
        NEW.authz_version := OLD.authz_version + 1;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER member_touch BEFORE UPDATE ON member FOR EACH ROW EXECUTE FUNCTION member_touch();
CREATE TRIGGER member_facility_bump AFTER INSERT OR DELETE ON member_facility FOR EACH ROW EXECUTE FUNCTION cell.bump_authz_version();
CREATE TRIGGER facility_grant_bump AFTER INSERT OR UPDATE ON facility_grant FOR EACH ROW EXECUTE FUNCTION cell.bump_authz_version();

-- A revoked grant stays revoked, by whom and when as it happened.
CREATE FUNCTION facility_grant_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'a revoked grant does not change' USING ERRCODE = 'CS002';
    END IF;
    IF NEW.revoked_at IS NOT NULL THEN
        NEW.revoked_at := now();
        NEW.revoked_by := cell.ctx_actor();
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER facility_grant_touch BEFORE UPDATE ON facility_grant FOR EACH ROW EXECUTE FUNCTION facility_grant_touch();

-- A session that was revoked, or idle for too long, cannot be brought back, and
-- nobody dates its last use but the clock.
CREATE FUNCTION member_session_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'a revoked session does not change' USING ERRCODE = 'CS401';
    END IF;
    IF NEW.revoked_at IS NOT NULL THEN
        NEW.last_seen  := OLD.last_seen;
        NEW.revoked_at := now();
        NEW.revoked_by := cell.ctx_actor();
    ELSIF OLD.last_seen + make_interval(secs => (SELECT t.idle_timeout_seconds FROM tenant_setting t)) < now() THEN
        RAISE EXCEPTION 'an idle session does not come back' USING ERRCODE = 'CS401';
    ELSE
        NEW.last_seen := now();
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER member_session_touch BEFORE UPDATE ON member_session FOR EACH ROW EXECUTE FUNCTION member_session_touch();

-- The first statement of a request's transaction, after its context is set.
-- Raises CS401 when the session is unknown, revoked, idle or too old, CS403 when
-- the member is gone or disabled, CS409 when what the worker decided with
-- (seen_authz_version) is no longer current: it reads again and decides again.
-- It notes the use of the session, at most every 15 seconds.
CREATE FUNCTION begin_request(seen_authz_version bigint) RETURNS void LANGUAGE plpgsql
    SET search_path FROM CURRENT
AS $$
DECLARE
    c record;
    r record;
BEGIN
    SELECT x.kind, x.actor, x.session INTO c FROM cell.context() x;
    IF c.kind IS DISTINCT FROM 'member' THEN
        RAISE EXCEPTION 'a request needs a member''s context' USING ERRCODE = 'CS001';
    END IF;
    SELECT s.revoked_at IS NOT NULL                                            AS revoked,
           s.last_seen + make_interval(secs => t.idle_timeout_seconds) < now() AS idle,
           s.first_seen + make_interval(secs => t.session_max_seconds) < now() AS old,
           s.last_seen < now() - interval '15 seconds'                         AS due,
           m.status, m.authz_version
      INTO r
      FROM member_session s
     CROSS JOIN tenant_setting t
      LEFT JOIN member m ON m.identity_id = s.identity_id
     WHERE s.session_id = c.session AND s.identity_id = c.actor;
    IF NOT FOUND OR r.revoked OR r.idle OR r.old THEN
        RAISE EXCEPTION 'the session is over' USING ERRCODE = 'CS401';
    END IF;
    IF r.status IS DISTINCT FROM 'active' THEN
        RAISE EXCEPTION 'the member is not active' USING ERRCODE = 'CS403';
    END IF;
    IF r.authz_version <> seen_authz_version THEN
        RAISE EXCEPTION 'what the member may do has changed' USING ERRCODE = 'CS409';
    END IF;
    IF r.due THEN
        UPDATE member_session SET last_seen = now() WHERE session_id = c.session AND revoked_at IS NULL;
    END IF;
END
$$;

ALTER TABLE tenant_setting  ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_setting  FORCE ROW LEVEL SECURITY;
ALTER TABLE facility        ENABLE ROW LEVEL SECURITY;
ALTER TABLE facility        FORCE ROW LEVEL SECURITY;
ALTER TABLE member          ENABLE ROW LEVEL SECURITY;
ALTER TABLE member          FORCE ROW LEVEL SECURITY;
ALTER TABLE member_facility ENABLE ROW LEVEL SECURITY;
ALTER TABLE member_facility FORCE ROW LEVEL SECURITY;
ALTER TABLE facility_grant  ENABLE ROW LEVEL SECURITY;
ALTER TABLE facility_grant  FORCE ROW LEVEL SECURITY;
ALTER TABLE member_session  ENABLE ROW LEVEL SECURITY;
ALTER TABLE member_session  FORCE ROW LEVEL SECURITY;
ALTER TABLE data_key        ENABLE ROW LEVEL SECURITY;
ALTER TABLE data_key        FORCE ROW LEVEL SECURITY;
ALTER TABLE probe           ENABLE ROW LEVEL SECURITY;
ALTER TABLE probe           FORCE ROW LEVEL SECURITY;
ALTER TABLE idempotency_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_key FORCE ROW LEVEL SECURITY;

-- The sub-selects make each context value an init plan: verified once a statement.
CREATE POLICY tenant_setting_select ON tenant_setting FOR SELECT
    USING ((SELECT cell.ctx_kind()) IS NOT NULL);
CREATE POLICY tenant_setting_insert ON tenant_setting FOR INSERT
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
CREATE POLICY tenant_setting_update ON tenant_setting FOR UPDATE
    USING ((SELECT cell.ctx_role()) = 'owner')
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');

CREATE POLICY facility_select ON facility FOR SELECT
    USING (id = ANY ((SELECT cell.ctx_facilities())::uuid[])
        OR (SELECT cell.ctx_role()) IN ('owner', 'auditor', 'ownership')
        OR (SELECT cell.ctx_kind()) = 'lookup');
CREATE POLICY facility_insert ON facility FOR INSERT
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
CREATE POLICY facility_update ON facility FOR UPDATE
    USING ((SELECT cell.ctx_role()) = 'owner')
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');

CREATE POLICY member_select ON member FOR SELECT
    USING (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_kind()) = 'member');
CREATE POLICY member_insert ON member FOR INSERT
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
CREATE POLICY member_update ON member FOR UPDATE
    USING ((SELECT cell.ctx_role()) = 'owner')
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
-- For cell.bump_authz_version, which runs as the owner of these tables: the owner
-- itself is refused by FORCE, at trigger depth it reaches this one table.
CREATE POLICY member_bump_select ON member FOR SELECT TO CURRENT_USER USING (pg_trigger_depth() > 0);
CREATE POLICY member_bump_update ON member FOR UPDATE TO CURRENT_USER USING (pg_trigger_depth() > 0);

CREATE POLICY member_facility_select ON member_facility FOR SELECT
    USING (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_kind()) = 'member');
CREATE POLICY member_facility_insert ON member_facility FOR INSERT
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
CREATE POLICY member_facility_delete ON member_facility FOR DELETE
    USING ((SELECT cell.ctx_role()) = 'owner');

CREATE POLICY facility_grant_select ON facility_grant FOR SELECT
    USING (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_kind()) = 'member');
CREATE POLICY facility_grant_insert ON facility_grant FOR INSERT
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');
CREATE POLICY facility_grant_update ON facility_grant FOR UPDATE
    USING ((SELECT cell.ctx_role()) = 'owner')
    WITH CHECK ((SELECT cell.ctx_role()) = 'owner');

-- A session is begun by its own lookup, and ended by its member or an owner.
CREATE POLICY member_session_select ON member_session FOR SELECT
    USING (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_role()) = 'owner');
CREATE POLICY member_session_insert ON member_session FOR INSERT
    WITH CHECK (identity_id = (SELECT cell.ctx_actor()) AND session_id = (SELECT cell.ctx_session())
        AND (SELECT cell.ctx_kind()) = 'lookup');
CREATE POLICY member_session_update ON member_session FOR UPDATE
    USING (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_role()) = 'owner')
    WITH CHECK (identity_id = (SELECT cell.ctx_actor()) OR (SELECT cell.ctx_role()) = 'owner');

CREATE POLICY data_key_select ON data_key FOR SELECT USING ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY data_key_insert ON data_key FOR INSERT WITH CHECK ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY data_key_update ON data_key FOR UPDATE
    USING ((SELECT cell.ctx_kind()) = 'system')
    WITH CHECK ((SELECT cell.ctx_kind()) = 'system');

CREATE POLICY probe_select ON probe FOR SELECT USING ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY probe_insert ON probe FOR INSERT WITH CHECK ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY probe_delete ON probe FOR DELETE USING ((SELECT cell.ctx_kind()) = 'system');

CREATE POLICY idempotency_key_select ON idempotency_key FOR SELECT
    USING (actor = (SELECT cell.ctx_actor()));
CREATE POLICY idempotency_key_insert ON idempotency_key FOR INSERT
    WITH CHECK (actor = (SELECT cell.ctx_actor()) AND (SELECT cell.ctx_kind()) = 'member');

-- Grants by table and column, to this tenant's login role alone. What is not
-- named is refused: ids and origins never change, counters and authors are set by
-- defaults and triggers, nothing is truncated.
DO $$
DECLARE
    tenant text := current_setting('caresphere.tenant_role');
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), tenant);
    EXECUTE format('GRANT EXECUTE ON FUNCTION begin_request(bigint) TO %I', tenant);
    EXECUTE format('GRANT SELECT ON tenant_setting, facility, member, member_facility, facility_grant, member_session, data_key, probe, idempotency_key TO %I', tenant);
    EXECUTE format('GRANT INSERT (tenant_id, slug, legal_name, care_setting) ON tenant_setting TO %I', tenant);
    EXECUTE format('GRANT UPDATE (idle_timeout_seconds, session_max_seconds) ON tenant_setting TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, name, timezone) ON facility TO %I', tenant);
    EXECUTE format('GRANT UPDATE (name, timezone) ON facility TO %I', tenant);
    EXECUTE format('GRANT INSERT (identity_id, email, name, role) ON member TO %I', tenant);
    EXECUTE format('GRANT UPDATE (name, role, status) ON member TO %I', tenant);
    EXECUTE format('GRANT INSERT (identity_id, facility_id) ON member_facility TO %I', tenant);
    EXECUTE format('GRANT DELETE ON member_facility TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, identity_id, facility_id, reason, expires_at) ON facility_grant TO %I', tenant);
    EXECUTE format('GRANT UPDATE (revoked_at) ON facility_grant TO %I', tenant);
    EXECUTE format('GRANT INSERT (session_id, identity_id, ip, device) ON member_session TO %I', tenant);
    EXECUTE format('GRANT UPDATE (last_seen, revoked_at) ON member_session TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, purpose, wrapped, kms_version) ON data_key TO %I', tenant);
    EXECUTE format('GRANT UPDATE (wrapped, kms_version) ON data_key TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, sealed) ON probe TO %I', tenant);
    EXECUTE format('GRANT DELETE ON probe TO %I', tenant);
    EXECUTE format('GRANT INSERT (key, operation, request_hash, record_id) ON idempotency_key TO %I', tenant);
END
$$;
-- +goose StatementEnd
