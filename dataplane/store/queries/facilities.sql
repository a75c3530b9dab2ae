-- Facilities: the places of care.

-- name: InsertFacility :one
INSERT INTO facility (id, name, timezone) VALUES ($1, $2, $3)
RETURNING id, name, timezone, version, created_at;

-- name: GetFacility :one
SELECT f.id, f.name, f.timezone, f.version, f.created_at
FROM facility f
WHERE f.id = $1;

-- name: ListFacilities :many
SELECT f.id, f.name, f.timezone, f.version, f.created_at
FROM facility f
WHERE f.id = ANY (sqlc.arg(facilities)::uuid[])
  AND f.id > sqlc.arg(after)::uuid
ORDER BY f.id
LIMIT sqlc.arg(page_size);

-- name: UpdateFacility :one
UPDATE facility SET name = sqlc.arg(name), timezone = sqlc.arg(timezone)
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version)
RETURNING id, name, timezone, version, created_at;
