-- +goose Up
-- A worker that is told of a change looks whether there was one: any login of the
-- database may tell it so, as often as it likes.
GRANT SELECT (tenant_id, gate_version, gate_open) ON cell.tenant_fence TO cell_worker;

-- +goose Down
REVOKE SELECT (tenant_id, gate_version, gate_open) ON cell.tenant_fence FROM cell_worker;
