-- +goose Up
-- What the control plane knows of sessions beyond Kratos: when each was last
-- used, because Kratos has no idle limit. And how the delivery of a mail stands.

CREATE TABLE console_session (
    realm       text        NOT NULL CONSTRAINT console_session_realm CHECK (realm IN ('customer', 'operator')),
    session_id  uuid        NOT NULL,
    identity_id uuid        NOT NULL,
    last_seen   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT console_session_pk PRIMARY KEY (realm, session_id)
);
CREATE INDEX console_session_by_last_seen ON console_session (last_seen);

ALTER TABLE mail
    ADD COLUMN tries   int         NOT NULL DEFAULT 0,
    ADD COLUMN next_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN reason  text        NOT NULL DEFAULT '';
CREATE INDEX mail_unsent ON mail (next_at) WHERE sent_at IS NULL;
CREATE INDEX mail_by_recipient ON mail (recipient, made_at DESC);

CREATE INDEX attempt_by_window ON attempt (window_start);
CREATE INDEX totp_used_by_time ON totp_used (used_at);
CREATE INDEX idempotency_key_by_time ON idempotency_key (made_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON console_session TO controlplane;
GRANT UPDATE ON totp_used TO controlplane;
