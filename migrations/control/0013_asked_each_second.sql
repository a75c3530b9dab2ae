-- +goose Up
-- What the provisioner asks each second is few rows of ten thousand.
CREATE INDEX organization_gate_waits ON organization (id) WHERE gate_applied < gate_version;
CREATE INDEX organization_being_made ON organization (id) WHERE state = 'provisioning';

-- +goose Down
DROP INDEX organization_being_made, organization_gate_waits;
