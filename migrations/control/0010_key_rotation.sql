-- +goose Up
-- Rotations of tenants' keys: asked for by an operator or the schedule, done by the
-- provisioner of the cell. The versions are recorded before the key is rotated, so
-- that whoever goes on after a kill sees by the key itself whether it was.
CREATE TABLE key_rotation (
    id              uuid        CONSTRAINT key_rotation_pk PRIMARY KEY,
    organization_id uuid        NOT NULL CONSTRAINT key_rotation_organization REFERENCES organization,
    cell_id         text        NOT NULL CONSTRAINT key_rotation_cell REFERENCES cell,
    asked_by        text        NOT NULL CONSTRAINT key_rotation_asked_by CHECK (asked_by IN ('schedule', 'operator')),
    state           text        NOT NULL DEFAULT 'waiting' CONSTRAINT key_rotation_state
                                CHECK (state IN ('waiting', 'rotating', 'rewrapping', 'grace', 'done', 'failed')),
    -- Why it does not go on, or failed.
    reason          text        NOT NULL DEFAULT '' CONSTRAINT key_rotation_reason_length CHECK (length(reason) <= 500),
    from_version    int         CONSTRAINT key_rotation_from CHECK (from_version > 0),
    to_version      int,
    -- How many wrapped keys were found to be of the new version.
    wraps           int         NOT NULL DEFAULT 0,
    asked_at        timestamptz NOT NULL DEFAULT now(),
    rotated_at      timestamptz,
    rewrapped_at    timestamptz,
    retire_after    timestamptz,
    finished_at     timestamptz,
    CONSTRAINT key_rotation_one_version CHECK (to_version IS NOT DISTINCT FROM from_version + 1),
    CONSTRAINT key_rotation_finished CHECK ((finished_at IS NOT NULL) = (state IN ('done', 'failed')))
);
-- One at a time: two would not know whose the new version is.
CREATE UNIQUE INDEX key_rotation_under_way ON key_rotation (organization_id) WHERE finished_at IS NULL;
CREATE INDEX key_rotation_by_time ON key_rotation (organization_id, asked_at DESC);

GRANT SELECT, INSERT ON key_rotation TO controlplane;
GRANT SELECT, INSERT, UPDATE ON key_rotation TO provisioner;

-- +goose Down
DROP TABLE key_rotation;
