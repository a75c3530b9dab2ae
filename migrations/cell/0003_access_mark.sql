-- +goose Up
-- Every statement of a tenant's role that reaches a clinical table asks for the
-- context's facilities, because that table's policies do. It leaves a line in the
-- server's log there, with the transaction's number: the database's own record, of
-- which `caresphere audit reconcile` finds the audit entry of the same transaction.
-- A login cannot go around it: log_min_messages is the superuser's. The line holds
-- no value and no text of the statement.
-- Only a member's context has facilities; one without any sees no row, and is not noted.
-- It gives the transaction its number, which its audit entry needs anyway. That
-- cannot be done while parallel workers run: hence PARALLEL UNSAFE.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL UNSAFE
AS $$
DECLARE
    c record;
BEGIN
    SELECT x.kind, x.facilities INTO c FROM cell.context() x;
    IF c.facilities IS NOT NULL THEN
        RAISE LOG 'caresphere access mark: transaction %', pg_current_xact_id();
    END IF;
    RETURN c.facilities;
END
$$;
-- +goose StatementEnd

-- +goose Down
CREATE OR REPLACE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL RESTRICTED AS 'SELECT facilities FROM cell.context()';
