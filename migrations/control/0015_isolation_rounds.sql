-- +goose Up
-- Which pairs of a cell's tenants a whole proof tries goes by how many were done there.
-- The number of a run goes by those of other cells, of single tenants and repairs as
-- well: with an even number of rounds two cells in turn would see half of them for ever.
ALTER TABLE cell ADD COLUMN isolation_round bigint NOT NULL DEFAULT 0;
GRANT UPDATE (isolation_round) ON cell TO provisioner;
-- A proof that is taken up again goes on in the round that it began.
ALTER TABLE isolation_run ADD COLUMN round bigint;
-- Runs that go on are asked for each few seconds.
CREATE INDEX isolation_run_open ON isolation_run (cell_id) WHERE finished_at IS NULL;

-- +goose Down
DROP INDEX isolation_run_open;
ALTER TABLE isolation_run DROP COLUMN round;
REVOKE UPDATE (isolation_round) ON cell FROM provisioner;
ALTER TABLE cell DROP COLUMN isolation_round;
