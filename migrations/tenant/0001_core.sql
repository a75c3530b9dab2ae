-- +goose Up
-- The administrative core of one tenant. Runs with search_path = the tenant's
-- schema, as cell_owner, with caresphere.tenant_role set to the login role.
-- Every table has row-level security enabled and forced; a policy per command.

CREATE TABLE tenant_setting (
    tenant_id              uuid CONSTRAINT tenant_setting_pk PRIMARY KEY,
    slug                   text NOT NULL,
    legal_name             text NOT NULL,
    care_setting           text NOT NULL CONSTRAINT tenant_setting_care CHECK (care_setting IN ('residential', 'clinic')),
    idle_timeout_seconds   int  NOT NULL DEFAULT 900   CONSTRAINT tenant_setting_idle CHECK (idle_timeout_seconds BETWEEN 60 AND 3600),
    session_max_seconds    int  NOT NULL DEFAULT 43200 CONSTRAINT tenant_setting_max CHECK (session_max_seconds BETWEEN 300 AND 86400),
    singleton              boolean NOT NULL DEFAULT true CONSTRAINT tenant_setting_one UNIQUE CHECK (singleton)
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
    role          text        NOT NULL,
    status        text        NOT NULL DEFAULT 'active' CONSTRAINT member_status CHECK (status IN ('active', 'disabled')),
    -- Raised by triggers whenever the role, the status, an assignment or a grant
    -- changes: a worker that decided with an older version decides again.
    authz_version bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE member_facility (
    identity_id uuid        NOT NULL CONSTRAINT member_facility_member REFERENCES member,
    facility_id uuid        NOT NULL CONSTRAINT member_facility_facility REFERENCES facility,
    assigned_by uuid        NOT NULL,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT member_facility_pk PRIMARY KEY (identity_id, facility_id)
);

-- A cross-facility grant: explicit, reasoned, and it may expire.
CREATE TABLE facility_grant (
    id          uuid        CONSTRAINT facility_grant_pk PRIMARY KEY,
    identity_id uuid        NOT NULL CONSTRAINT facility_grant_member REFERENCES member,
    facility_id uuid        NOT NULL CONSTRAINT facility_grant_facility REFERENCES facility,
    reason      text        NOT NULL CONSTRAINT facility_grant_reason CHECK (length(reason) BETWEEN 1 AND 500),
    granted_by  uuid        NOT NULL,
    granted_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
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
    actor        uuid        NOT NULL,
    key          text        NOT NULL,
    operation    text        NOT NULL,
    request_hash bytea       NOT NULL,
    record_id    uuid        NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_key_pk PRIMARY KEY (actor, key)
);
