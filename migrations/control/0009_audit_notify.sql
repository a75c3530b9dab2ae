-- +goose Up
-- Tells the sealer of each transaction that wrote to the control plane's trail, as
-- it commits: whoever wrote it. One notification a transaction: equal ones fold.
-- The payload is audit.ControlLog().Tag(). The trail here is written by people
-- signing up and by operators; the lock that NOTIFY takes at commit is no matter.
-- +goose StatementBegin
CREATE FUNCTION audit_notify() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('audit_dirty', encode(substring(sha256('audit_dirty|control') FOR 16), 'hex'));
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_entry_notify AFTER INSERT ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION audit_notify();

-- +goose Down
DROP TRIGGER audit_entry_notify ON audit_entry;
DROP FUNCTION audit_notify();
