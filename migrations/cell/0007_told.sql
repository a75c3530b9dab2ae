-- +goose Up
-- What a tenant's rows say the control plane has been told is written by the worker's own
-- bookkeeping, which writes nothing else of a member or a session.

-- A member counts as told up to a version. A change of assignments or grants, which the
-- control plane does not hear of, leaves told who was told.
-- +goose StatementBegin
CREATE FUNCTION cell.member_told() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cell.ctx_kind() IS NOT DISTINCT FROM 'system' THEN
        IF NEW.told_version = OLD.told_version THEN
            RETURN NULL; -- as where no policy lets it reach the row
        END IF;
        IF NEW.told_version NOT BETWEEN OLD.told_version AND OLD.authz_version
           OR (NEW.identity_id, NEW.email, NEW.name, NEW.role, NEW.status, NEW.authz_version, NEW.created_at)
              IS DISTINCT FROM (OLD.identity_id, OLD.email, OLD.name, OLD.role, OLD.status, OLD.authz_version, OLD.created_at) THEN
            RAISE EXCEPTION 'a member does not change with what was told' USING ERRCODE = 'CS002';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.told_version <> OLD.told_version THEN
        RAISE EXCEPTION 'only the worker says what was told' USING ERRCODE = 'CS002';
    END IF;
    IF OLD.told_version = OLD.authz_version AND NEW.role = OLD.role AND NEW.status = OLD.status THEN
        NEW.told_version := NEW.authz_version;
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- The end of a session is told once.
-- +goose StatementBegin
CREATE FUNCTION cell.member_session_told() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cell.ctx_kind() IS DISTINCT FROM 'system' OR OLD.revoked_at IS NULL OR OLD.told_at IS NOT NULL THEN
        RAISE EXCEPTION 'only the worker says that the end of a session was told' USING ERRCODE = 'CS002';
    END IF;
    NEW.told_at := now();
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION cell.member_session_told(), cell.member_told();
