-- +goose Up
-- Made before the first release: every database has these tables empty when it
-- runs, so there is nothing to rewrite, to scan or to break.
-- squawk-ignore-file constraint-missing-not-valid
-- Until when the gate was decided to be open: the expiry of the agreement in
-- force. It stands in the signed route, so that routers and workers refuse from
-- that moment on by themselves; the reconciler compares it like mode and reason.
ALTER TABLE organization ADD COLUMN gate_until timestamptz;
ALTER TABLE organization
    ADD CONSTRAINT organization_state CHECK (state IN ('pending', 'provisioning', 'provisioning_failed', 'live',
        'read_only', 'suspended', 'quarantined', 'closed')),
    ADD CONSTRAINT organization_gate_mode CHECK (gate_mode IN ('closed', 'probe', 'read_only', 'open')),
    ADD CONSTRAINT organization_state_reason_length CHECK (length(state_reason) <= 1000);
