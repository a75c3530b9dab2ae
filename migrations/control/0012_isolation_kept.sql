-- +goose Up
-- A run that is removed takes its results along: without this, each removal reads all
-- results. Only the provisioner's proofs write here, and they can wait for it.
CREATE INDEX isolation_result_run ON isolation_result (run_id);
-- What is kept of a scheduled run is asked by when it ended.
CREATE INDEX isolation_run_ended ON isolation_run (finished_at) WHERE asked_by = 'schedule';

-- +goose Down
DROP INDEX isolation_run_ended, isolation_result_run;
