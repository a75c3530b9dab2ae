-- +goose Up
-- Triggers run the cell's functions; a schema has none of its own any more. Workers of the
-- release before call begin_request here: they are replaced at the same time.
CREATE OR REPLACE TRIGGER facility_touch BEFORE UPDATE ON facility FOR EACH ROW EXECUTE FUNCTION cell.facility_touch();
CREATE OR REPLACE TRIGGER member_touch BEFORE UPDATE ON member FOR EACH ROW EXECUTE FUNCTION cell.member_touch();
CREATE OR REPLACE TRIGGER facility_grant_touch BEFORE UPDATE ON facility_grant FOR EACH ROW EXECUTE FUNCTION cell.facility_grant_touch();
CREATE OR REPLACE TRIGGER member_session_touch BEFORE UPDATE ON member_session FOR EACH ROW EXECUTE FUNCTION cell.member_session_touch();
CREATE OR REPLACE TRIGGER client_touch BEFORE UPDATE ON client FOR EACH ROW EXECUTE FUNCTION cell.client_touch();
CREATE OR REPLACE TRIGGER audit_entry_actor BEFORE INSERT ON audit_entry
    FOR EACH ROW WHEN (NEW.actor_kind IS NULL) EXECUTE FUNCTION cell.audit_stamp_actor();
DROP FUNCTION facility_touch(), member_touch(), facility_grant_touch(), member_session_touch(), client_touch(), audit_stamp_actor(), begin_request(bigint);
