-- +goose Up
-- A proof of a whole cell of ten thousand tenants takes an hour: what it found of each
-- is kept while it runs, so that whoever takes it over goes on, and removed once the
-- signed report holds it.
ALTER TABLE isolation_result ADD COLUMN part bytea;
GRANT UPDATE (part) ON isolation_result TO provisioner;

-- +goose Down
REVOKE UPDATE (part) ON isolation_result FROM provisioner;
ALTER TABLE isolation_result DROP COLUMN part;
