-- +goose Up
-- Proofs of isolation and repairs: asked for by an operator or the schedule, done
-- by the provisioner of the cell. A proof's document is its signed report, a
-- plan's and a repair's the differences with the statements that mend them.
CREATE TABLE isolation_run (
    id              uuid        CONSTRAINT isolation_run_pk PRIMARY KEY,
    -- Counts the runs: which pairs of tenants a sample tries goes by it.
    number          bigint      NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT isolation_run_number UNIQUE,
    kind            text        NOT NULL CONSTRAINT isolation_run_kind CHECK (kind IN ('proof', 'plan', 'repair')),
    cell_id         text        NOT NULL CONSTRAINT isolation_run_cell REFERENCES cell,
    -- One tenant, or null for all of the cell.
    organization_id uuid        CONSTRAINT isolation_run_organization REFERENCES organization,
    asked_by        text        NOT NULL CONSTRAINT isolation_run_asked_by CHECK (asked_by IN ('schedule', 'operator', 'release')),
    state           text        NOT NULL DEFAULT 'waiting' CONSTRAINT isolation_run_state CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    reason          text        NOT NULL DEFAULT '' CONSTRAINT isolation_run_reason_length CHECK (length(reason) <= 500),
    ok              boolean     NOT NULL DEFAULT false,
    proven          int         NOT NULL DEFAULT 0,
    failed          int         NOT NULL DEFAULT 0,
    unproven        int         NOT NULL DEFAULT 0,
    document        bytea,
    asked_at        timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    CONSTRAINT isolation_run_of_one CHECK (kind = 'proof' OR organization_id IS NOT NULL)
);
CREATE INDEX isolation_run_by_time ON isolation_run (cell_id, asked_at DESC);

-- What each proof said of each tenant.
CREATE TABLE isolation_result (
    organization_id uuid        NOT NULL CONSTRAINT isolation_result_organization REFERENCES organization,
    run_id          uuid        NOT NULL CONSTRAINT isolation_result_run REFERENCES isolation_run ON DELETE CASCADE,
    verdict         text        NOT NULL CONSTRAINT isolation_result_verdict CHECK (verdict IN ('proven', 'failed', 'unproven')),
    findings        int         NOT NULL DEFAULT 0,
    summary         text        NOT NULL DEFAULT '' CONSTRAINT isolation_result_summary_length CHECK (length(summary) <= 1000),
    proved_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT isolation_result_pk PRIMARY KEY (organization_id, run_id)
);
CREATE INDEX isolation_result_newest ON isolation_result (organization_id, proved_at DESC);

GRANT SELECT, INSERT ON isolation_run TO controlplane;
GRANT SELECT, INSERT, UPDATE, DELETE ON isolation_run TO provisioner;
GRANT SELECT ON isolation_result TO controlplane;
GRANT SELECT, INSERT, DELETE ON isolation_result TO provisioner;
-- A quarantine and the letter about it commit together.
GRANT INSERT ON mail TO provisioner;

-- +goose Down
DROP TABLE isolation_result, isolation_run;
REVOKE INSERT ON mail FROM provisioner;
