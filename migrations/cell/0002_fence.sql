-- +goose Up
-- What guards this cell against a provisioner that was paused past its lease, and
-- against a gate decision that arrives after a newer one. Every change that the
-- provisioner makes for a tenant raises or confirms its row in the same
-- transaction; one with an older number changes nothing.
CREATE TABLE cell.tenant_fence (
    tenant_id    uuid    CONSTRAINT tenant_fence_pk PRIMARY KEY,
    fence        bigint  NOT NULL DEFAULT 0,
    gate_version bigint  NOT NULL DEFAULT -1,
    gate_open    boolean NOT NULL DEFAULT false
);
REVOKE ALL ON cell.tenant_fence FROM PUBLIC;

-- +goose Down
DROP TABLE cell.tenant_fence;
