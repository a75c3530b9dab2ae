-- +goose Up
-- +goose StatementBegin
-- What the control plane has been told of this tenant's people: members' standing up to a
-- version, and the end of sessions. What it has not been told yet is found by index.
-- Who is there already counts as untold, and is told once.
ALTER TABLE member ADD COLUMN told_version bigint NOT NULL DEFAULT 0;
ALTER TABLE member_session ADD COLUMN told_at timestamptz;
CREATE INDEX member_untold ON member (identity_id) WHERE told_version < authz_version;
CREATE INDEX member_session_untold ON member_session (session_id) WHERE revoked_at IS NOT NULL AND told_at IS NULL;

-- By its name after member_touch, which raises the version.
CREATE TRIGGER member_touch_told BEFORE UPDATE ON member FOR EACH ROW EXECUTE FUNCTION cell.member_told();
-- A revoked session changes in nothing but that its end was told.
CREATE OR REPLACE TRIGGER member_session_touch
    BEFORE UPDATE OF session_id, identity_id, ip, device, first_seen, last_seen, revoked_at, revoked_by ON member_session
    FOR EACH ROW EXECUTE FUNCTION cell.member_session_touch();
CREATE TRIGGER member_session_told BEFORE UPDATE OF told_at ON member_session
    FOR EACH ROW EXECUTE FUNCTION cell.member_session_told();

CREATE POLICY member_told_select ON member FOR SELECT USING ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY member_told_update ON member FOR UPDATE
    USING ((SELECT cell.ctx_kind()) = 'system')
    WITH CHECK ((SELECT cell.ctx_kind()) = 'system');
CREATE POLICY member_session_told_select ON member_session FOR SELECT
    USING (revoked_at IS NOT NULL AND (SELECT cell.ctx_kind()) = 'system');
CREATE POLICY member_session_told_update ON member_session FOR UPDATE
    USING (revoked_at IS NOT NULL AND (SELECT cell.ctx_kind()) = 'system')
    WITH CHECK (revoked_at IS NOT NULL AND (SELECT cell.ctx_kind()) = 'system');

DO $$
DECLARE
    tenant text := current_setting('caresphere.tenant_role');
BEGIN
    EXECUTE format('GRANT UPDATE (told_version) ON member TO %I', tenant);
    EXECUTE format('GRANT UPDATE (told_at) ON member_session TO %I', tenant);
END
$$;
-- +goose StatementEnd
