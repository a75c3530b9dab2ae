-- What a member may do and where, and the sessions that they do it with.

-- name: LoadMember :one
SELECT m.identity_id, m.email, m.name, m.role, m.status, m.authz_version
FROM member m
WHERE m.identity_id = $1;

-- name: LoadScope :one
-- Every facility of a tenant-wide role, otherwise those assigned and those granted
-- for now; expires_at is when the earliest of the grants ends, a
-- day away if none does.
SELECT
    ARRAY(
        SELECT f.id FROM facility f WHERE sqlc.arg(tenant_wide)::boolean
        UNION
        SELECT mf.facility_id FROM member_facility mf WHERE mf.identity_id = sqlc.arg(identity_id)
        UNION
        SELECT g.facility_id FROM facility_grant g
        WHERE g.identity_id = sqlc.arg(identity_id) AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > now())
    )::uuid[] AS facilities,
    COALESCE((SELECT min(g.expires_at) FROM facility_grant g
     WHERE g.identity_id = sqlc.arg(identity_id) AND g.revoked_at IS NULL AND g.expires_at > now()),
     now() + interval '1 day')::timestamptz AS expires_at;

-- name: LoadSettings :one
SELECT tenant_id, slug, legal_name, care_setting, idle_timeout_seconds, session_max_seconds
FROM tenant_setting;

-- name: ListSessions :many
SELECT s.session_id, s.identity_id, m.name, m.role, s.ip, s.device, s.first_seen, s.last_seen
FROM member_session s
JOIN member m ON m.identity_id = s.identity_id
WHERE s.revoked_at IS NULL
  AND s.last_seen > now() - make_interval(secs => sqlc.arg(idle_seconds)::int)
  AND s.session_id > sqlc.arg(after)::uuid
ORDER BY s.session_id
LIMIT sqlc.arg(page_size);

-- name: InsertSession :execrows
INSERT INTO member_session (session_id, identity_id, ip, device)
VALUES ($1, $2, $3, $4)
ON CONFLICT ON CONSTRAINT member_session_pk DO NOTHING;

-- name: GetSession :one
SELECT s.session_id, s.identity_id, s.ip, s.device, s.first_seen, s.last_seen
FROM member_session s
WHERE s.session_id = $1 AND s.revoked_at IS NULL;

-- name: RevokeSession :execrows
UPDATE member_session SET revoked_at = now()
WHERE session_id = $1 AND revoked_at IS NULL;

-- name: RevokeMemberSessions :execrows
UPDATE member_session SET revoked_at = now()
WHERE identity_id = $1 AND revoked_at IS NULL;
