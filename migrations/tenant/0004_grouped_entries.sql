-- +goose Up
-- Lets cell.write_entries in, which runs as the owner of this table: the owner itself
-- is refused by FORCE, and still is where it logged in as itself.
CREATE POLICY audit_entry_grouped ON audit_entry FOR INSERT TO CURRENT_USER
    WITH CHECK (db_role = session_user AND session_user <> current_user AND actor_kind = 'member'
        AND actor_id IS NOT NULL AND session_id IS NOT NULL);
