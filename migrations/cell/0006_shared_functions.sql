-- +goose Up
-- What every tenant's triggers and requests run, once for all. PostgreSQL looks a function
-- up by its name in all schemas before it looks at the schema: with one of the same name
-- in each of ten thousand, the first call on each new connection took 40 ms more, and so
-- did each trigger of each new tenant.
--
-- None of them has rights of its own but those of whoever runs it.

-- A facility's version counts its changes.
-- +goose StatementBegin
CREATE FUNCTION cell.facility_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- A change of role or status counts as a change of what the member may do.
-- +goose StatementBegin
CREATE FUNCTION cell.member_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.role <> OLD.role OR NEW.status <> OLD.status THEN
        NEW.authz_version := OLD.authz_version + 1;
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- A revoked grant stays revoked, by whom and when as it happened.
-- +goose StatementBegin
CREATE FUNCTION cell.facility_grant_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'a revoked grant does not change' USING ERRCODE = 'CS002';
    END IF;
    IF NEW.revoked_at IS NOT NULL THEN
        NEW.revoked_at := now();
        NEW.revoked_by := cell.ctx_actor();
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- A session that was revoked, or idle for too long, cannot be brought back, and
-- nobody dates its last use but the clock. The limit is of the session's own tenant.
-- +goose StatementBegin
CREATE FUNCTION cell.member_session_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    idle interval;
BEGIN
    IF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION 'a revoked session does not change' USING ERRCODE = 'CS401';
    END IF;
    IF NEW.revoked_at IS NOT NULL THEN
        NEW.last_seen  := OLD.last_seen;
        NEW.revoked_at := now();
        NEW.revoked_by := cell.ctx_actor();
        RETURN NEW;
    END IF;
    EXECUTE format('SELECT make_interval(secs => t.idle_timeout_seconds) FROM %I.tenant_setting t', TG_TABLE_SCHEMA) INTO idle;
    IF OLD.last_seen + idle < now() THEN
        RAISE EXCEPTION 'an idle session does not come back' USING ERRCODE = 'CS401';
    END IF;
    NEW.last_seen := now();
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- Every change of a client raises its version by one and says who and when.
-- +goose StatementBegin
CREATE FUNCTION cell.client_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.created_by <> OLD.created_by OR NEW.created_at <> OLD.created_at THEN
        RAISE EXCEPTION 'a client''s id and origin do not change' USING ERRCODE = 'CS002';
    END IF;
    NEW.version    := OLD.version + 1;
    NEW.updated_by := cell.ctx_actor();
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- One look at the context an entry: as column defaults it would be four, each
-- with its own check of the signature, which costs more than the insert itself.
-- +goose StatementBegin
CREATE FUNCTION cell.audit_stamp_actor() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c record := cell.context();
BEGIN
    NEW.actor_kind := c.kind;
    NEW.actor_id   := c.actor;
    NEW.role       := coalesce(c.member_role, '');
    NEW.session_id := c.session;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

-- The first statement of a request's transaction, after its context is set.
-- Raises CS401 when the session is unknown, revoked, idle or too old, CS403 when
-- the member is gone or disabled, CS409 when what the worker decided with
-- (seen_authz_version) is no longer current: it reads again and decides again.
-- It notes the use of the session, at most every 15 seconds.
--
-- Its tables are those of the schema that the connection works in, the login role's own:
-- a pinned path would be another tenant's. A login can make no table that could stand
-- in their place, and a path without them is an error.
-- +goose StatementBegin
CREATE FUNCTION cell.begin_request(seen_authz_version bigint) RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    c record;
    r record;
BEGIN
    SELECT x.kind, x.actor, x.session INTO c FROM cell.context() x;
    IF c.kind IS DISTINCT FROM 'member' THEN
        RAISE EXCEPTION 'a request needs a member''s context' USING ERRCODE = 'CS001';
    END IF;
    SELECT s.revoked_at IS NOT NULL                                            AS revoked,
           s.last_seen + make_interval(secs => t.idle_timeout_seconds) < now() AS idle,
           s.first_seen + make_interval(secs => t.session_max_seconds) < now() AS old,
           s.last_seen < now() - interval '15 seconds'                         AS due,
           m.status, m.authz_version
      INTO r
      FROM member_session s
     CROSS JOIN tenant_setting t
      LEFT JOIN member m ON m.identity_id = s.identity_id
     WHERE s.session_id = c.session AND s.identity_id = c.actor;
    IF NOT FOUND OR r.revoked OR r.idle OR r.old THEN
        RAISE EXCEPTION 'the session is over' USING ERRCODE = 'CS401';
    END IF;
    IF r.status IS DISTINCT FROM 'active' THEN
        RAISE EXCEPTION 'the member is not active' USING ERRCODE = 'CS403';
    END IF;
    IF r.authz_version <> seen_authz_version THEN
        RAISE EXCEPTION 'what the member may do has changed' USING ERRCODE = 'CS409';
    END IF;
    IF r.due THEN
        UPDATE member_session SET last_seen = now() WHERE session_id = c.session AND revoked_at IS NULL;
    END IF;
END
$$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION cell.begin_request(bigint) TO PUBLIC;

-- +goose Down
DROP FUNCTION cell.begin_request(bigint), cell.audit_stamp_actor(), cell.client_touch(), cell.member_session_touch(),
    cell.facility_grant_touch(), cell.member_touch(), cell.facility_touch();
