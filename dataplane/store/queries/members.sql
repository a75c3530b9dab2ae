-- Members, where they are assigned, and the grants that reach further.

-- name: InsertMember :one
-- A person invited twice stays one member: no row comes back for the second.
INSERT INTO member (identity_id, email, name, role) VALUES ($1, $2, $3, $4)
ON CONFLICT (identity_id) DO NOTHING
RETURNING identity_id, email, name, role, status, authz_version, created_at;

-- name: GetMember :one
SELECT m.identity_id, m.email, m.name, m.role, m.status, m.authz_version, m.created_at
FROM member m
WHERE m.identity_id = $1;

-- name: LockMember :one
-- Assignments that replace each other are one after the other: two at once would
-- leave the member both.
SELECT m.identity_id
FROM member m
WHERE m.identity_id = $1
FOR NO KEY UPDATE;

-- name: ListMembers :many
SELECT m.identity_id, m.email, m.name, m.role, m.status, m.authz_version, m.created_at
FROM member m
WHERE m.identity_id > sqlc.arg(after)::uuid
ORDER BY m.identity_id
LIMIT sqlc.arg(page_size);

-- name: ListAssignments :many
SELECT mf.identity_id, mf.facility_id
FROM member_facility mf
WHERE mf.identity_id = ANY (sqlc.arg(members)::uuid[])
ORDER BY mf.identity_id, mf.facility_id;

-- name: UpdateMember :one
UPDATE member SET name = sqlc.arg(name), role = sqlc.arg(role), status = sqlc.arg(status)
WHERE identity_id = sqlc.arg(identity_id) AND authz_version = sqlc.arg(version)
RETURNING identity_id, email, name, role, status, authz_version, created_at;

-- name: CountOtherOwners :one
-- Locked, so that two owners cannot step down at once, each counting the other.
SELECT count(*) FROM (
    SELECT m.identity_id FROM member m
    WHERE m.role = 'owner' AND m.status = 'active' AND m.identity_id <> $1
    FOR UPDATE
) AS other;

-- name: AssignFacilities :exec
INSERT INTO member_facility (identity_id, facility_id)
SELECT sqlc.arg(identity_id), unnest(sqlc.arg(facilities)::uuid[])
ON CONFLICT ON CONSTRAINT member_facility_pk DO NOTHING;

-- name: UnassignOthers :exec
DELETE FROM member_facility
WHERE identity_id = sqlc.arg(identity_id) AND NOT (facility_id = ANY (sqlc.arg(facilities)::uuid[]));

-- name: InsertGrant :one
INSERT INTO facility_grant (id, identity_id, facility_id, reason, expires_at)
VALUES ($1, $2, $3, $4, $5)
RETURNING id, identity_id, facility_id, reason, granted_by, granted_at, expires_at, revoked_at, revoked_by;

-- name: GetGrant :one
SELECT g.id, g.identity_id, g.facility_id, g.reason, g.granted_by, g.granted_at, g.expires_at, g.revoked_at, g.revoked_by
FROM facility_grant g
WHERE g.id = $1;

-- name: ListGrants :many
SELECT g.id, g.identity_id, g.facility_id, g.reason, g.granted_by, g.granted_at, g.expires_at, g.revoked_at, g.revoked_by
FROM facility_grant g
WHERE g.identity_id = sqlc.arg(identity_id)
  AND g.id > sqlc.arg(after)::uuid
ORDER BY g.id
LIMIT sqlc.arg(page_size);

-- name: RevokeGrant :one
UPDATE facility_grant SET revoked_at = now()
WHERE id = sqlc.arg(id) AND revoked_at IS NULL
RETURNING id, identity_id, facility_id, reason, granted_by, granted_at, expires_at, revoked_at, revoked_by;

-- name: Untold :many
-- What the control plane has not been told: ends of sessions and members' standing, first
-- what is asked about; pending is how many there are in all.
SELECT u.id, u.is_session, u.role, u.status, u.version, count(*) OVER () AS pending
FROM (
    SELECT s.session_id AS id, true AS is_session, ''::text AS role, ''::text AS status, 0::bigint AS version
    FROM member_session s WHERE s.revoked_at IS NOT NULL AND s.told_at IS NULL
    UNION ALL
    SELECT m.identity_id, false, m.role, m.status, m.authz_version
    FROM member m WHERE m.told_version < m.authz_version
) AS u
ORDER BY u.id = sqlc.arg(about)::uuid DESC, u.is_session DESC, u.id
LIMIT sqlc.arg(page_size);

-- name: MarkMemberTold :exec
-- No row: the member has changed since, and is told again.
UPDATE member SET told_version = authz_version
WHERE identity_id = $1 AND authz_version = sqlc.arg(version) AND told_version < authz_version;

-- name: MarkSessionsTold :exec
UPDATE member_session SET told_at = now()
WHERE session_id = ANY (sqlc.arg(sessions)::uuid[]) AND revoked_at IS NOT NULL AND told_at IS NULL;
