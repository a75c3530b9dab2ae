-- +goose Up
-- Part of the first statement of each of a tenant's transactions, and of the one before its
-- audit entry. A session's named statements can be replaced by SQL that slips into a
-- request; what SQL prepared is marked (from_sql), and the worker knows how many it
-- prepared itself, over the protocol. The statement that asks has no name.
--
-- +goose StatementBegin
CREATE FUNCTION cell.own_statements(known integer) RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    IF (SELECT count(*) <> known OR coalesce(bool_or(s.from_sql), false) FROM pg_catalog.pg_prepared_statement() s) THEN
        RAISE EXCEPTION 'the session has other statements than its worker prepared' USING ERRCODE = 'CS410';
    END IF;
END
$$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION cell.own_statements(integer) TO PUBLIC;

-- +goose Down
DROP FUNCTION cell.own_statements(integer);
