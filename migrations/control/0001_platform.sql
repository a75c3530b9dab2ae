-- +goose Up
-- The control database: organizations, agreements, provisioning, placement.
-- Nothing here is PHI. Roles controlplane and provisioner are made by the
-- bootstrap; each gets what its job needs, by table.

CREATE TABLE cell (
    id         text        CONSTRAINT cell_pk PRIMARY KEY CONSTRAINT cell_id_form CHECK (id ~ '^[a-z][a-z0-9-]{0,30}$'),
    open       boolean     NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE worker (
    id        text        CONSTRAINT worker_pk PRIMARY KEY,
    cell_id   text        NOT NULL CONSTRAINT worker_cell REFERENCES cell,
    url       text        NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organization (
    id              uuid        CONSTRAINT organization_pk PRIMARY KEY,
    slug            text        NOT NULL CONSTRAINT organization_slug UNIQUE,
    legal_name      text        NOT NULL CONSTRAINT organization_name_length CHECK (length(legal_name) BETWEEN 2 AND 200),
    care_setting    text        NOT NULL CONSTRAINT organization_care CHECK (care_setting IN ('residential', 'clinic')),
    state           text        NOT NULL DEFAULT 'pending',
    state_reason    text        NOT NULL DEFAULT '',
    cell_id         text        CONSTRAINT organization_cell REFERENCES cell,
    placement_epoch bigint      NOT NULL DEFAULT 0,
    key_alive       boolean     NOT NULL DEFAULT false,
    -- The gate as last decided; the reconciler compares it with DecideGate.
    gate_mode       text        NOT NULL DEFAULT 'closed',
    gate_reason     text        NOT NULL DEFAULT '',
    gate_version    bigint      NOT NULL DEFAULT 0,
    gate_applied    bigint      NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- Everybody who may sign in, and who belongs where. The tenant's own schema has roles.
CREATE TABLE account (
    identity_id     uuid        CONSTRAINT account_pk PRIMARY KEY,
    organization_id uuid        NOT NULL CONSTRAINT account_organization REFERENCES organization,
    email           text        NOT NULL CONSTRAINT account_email UNIQUE,
    name            text        NOT NULL,
    first_owner     boolean     NOT NULL DEFAULT false,
    email_verified_at timestamptz,
    ready_at        timestamptz,
    invited_at      timestamptz NOT NULL DEFAULT now(),
    disabled_at     timestamptz
);
CREATE INDEX account_by_organization ON account (organization_id);

CREATE TABLE baa (
    id                uuid        CONSTRAINT baa_pk PRIMARY KEY,
    organization_id   uuid        NOT NULL CONSTRAINT baa_organization REFERENCES organization,
    state             text        NOT NULL DEFAULT 'draft',
    template_version  text        NOT NULL,
    document          bytea       NOT NULL,
    document_sha256   bytea       NOT NULL,
    -- The signer's and the countersigner's evidence, canonical JSON, written once.
    customer_evidence jsonb,
    operator_evidence jsonb,
    signed_at         timestamptz,
    executed_at       timestamptz,
    expires_at        timestamptz,
    ended_at          timestamptz,
    ended_reason      text        NOT NULL DEFAULT '',
    pdf               bytea,
    bundle            bytea,
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX baa_by_organization ON baa (organization_id, created_at DESC);
CREATE UNIQUE INDEX baa_one_executed ON baa (organization_id) WHERE state = 'executed';

CREATE TABLE subscription (
    organization_id    uuid        CONSTRAINT subscription_pk PRIMARY KEY CONSTRAINT subscription_organization REFERENCES organization,
    plan               text        NOT NULL CONSTRAINT subscription_plan CHECK (plan IN ('manual', 'stripe')),
    stripe_customer    text,
    stripe_subscription text,
    status             text        NOT NULL,
    updated_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE provisioning_step (
    organization_id uuid        NOT NULL CONSTRAINT provisioning_step_organization REFERENCES organization,
    step            text        NOT NULL,
    position        int         NOT NULL,
    state           text        NOT NULL DEFAULT 'waiting' CONSTRAINT provisioning_step_state CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    attempt         int         NOT NULL DEFAULT 0,
    reason          text        NOT NULL DEFAULT '',
    started_at      timestamptz,
    finished_at     timestamptz,
    CONSTRAINT provisioning_step_pk PRIMARY KEY (organization_id, step)
);

-- Who provisions a tenant now. The fence rises with every taker; a write that
-- carries an older fence changes nothing.
CREATE TABLE provisioning_lease (
    organization_id uuid        CONSTRAINT provisioning_lease_pk PRIMARY KEY CONSTRAINT provisioning_lease_organization REFERENCES organization,
    fence           bigint      NOT NULL,
    holder          text        NOT NULL,
    until           timestamptz NOT NULL
);

-- The version of the route table: raised in the transaction of whatever changed it.
CREATE TABLE route_version (
    singleton boolean CONSTRAINT route_version_pk PRIMARY KEY DEFAULT true CHECK (singleton),
    version   bigint NOT NULL
);
INSERT INTO route_version (version) VALUES (1);

CREATE TABLE mail (
    id         uuid        CONSTRAINT mail_pk PRIMARY KEY,
    recipient  text        NOT NULL,
    template   text        NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz
);

CREATE TABLE idempotency_key (
    actor        text        NOT NULL,
    key          text        NOT NULL,
    operation    text        NOT NULL,
    request_hash bytea       NOT NULL,
    status       int         NOT NULL,
    response     jsonb       NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_key_pk PRIMARY KEY (actor, key)
);

-- Tries at a password, a code or a recovery in one window, by hashed subject.
CREATE TABLE attempt (
    bucket       text        NOT NULL,
    subject      bytea       NOT NULL,
    window_start timestamptz NOT NULL,
    tries        int         NOT NULL,
    CONSTRAINT attempt_pk PRIMARY KEY (bucket, subject, window_start)
);

-- One-time codes that were presented, so that none counts twice (RFC 6238, 5.2).
CREATE TABLE totp_used (
    identity_id uuid        NOT NULL,
    code_hash   bytea       NOT NULL,
    used_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT totp_used_pk PRIMARY KEY (identity_id, code_hash)
);

-- Checkpoints of tenants' audit logs, kept outside the cell that they speak of.
CREATE TABLE audit_anchor (
    log         text        NOT NULL,
    tree_size   bigint      NOT NULL,
    root_hash   bytea       NOT NULL,
    checkpoint  text        NOT NULL,
    anchored_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_anchor_pk PRIMARY KEY (log, tree_size)
);

GRANT USAGE ON SCHEMA public TO controlplane, provisioner;
GRANT SELECT, INSERT ON cell TO controlplane, provisioner;
GRANT SELECT, INSERT, UPDATE, DELETE ON worker TO controlplane;
GRANT SELECT ON worker TO provisioner;
GRANT SELECT, INSERT, UPDATE ON organization TO controlplane;
GRANT SELECT, UPDATE ON organization TO provisioner;
GRANT SELECT, INSERT, UPDATE ON account TO controlplane;
GRANT SELECT ON account TO provisioner;
GRANT SELECT, INSERT, UPDATE ON baa TO controlplane;
GRANT SELECT ON baa TO provisioner;
GRANT SELECT, INSERT, UPDATE ON subscription TO controlplane, provisioner;
GRANT SELECT, INSERT ON provisioning_step TO controlplane;
GRANT SELECT, INSERT, UPDATE ON provisioning_step TO provisioner;
GRANT SELECT, INSERT, UPDATE ON provisioning_lease TO provisioner;
GRANT SELECT, UPDATE ON route_version TO controlplane, provisioner;
GRANT SELECT, INSERT, UPDATE ON mail TO controlplane;
GRANT SELECT, INSERT, DELETE ON idempotency_key TO controlplane;
GRANT SELECT, INSERT, UPDATE, DELETE ON attempt TO controlplane;
GRANT SELECT, INSERT, DELETE ON totp_used TO controlplane;
GRANT SELECT, INSERT ON audit_anchor TO provisioner;
GRANT SELECT ON audit_anchor TO controlplane;
