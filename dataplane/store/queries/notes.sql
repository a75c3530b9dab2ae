-- Shift notes: written once, amended by further notes.

-- Where the client is now is where the note belongs; a client out of scope gives no row.
-- name: InsertNote :one
INSERT INTO shift_note (id, client_id, facility_id, shift, body_sealed, amends)
SELECT sqlc.arg(id), c.id, c.facility_id, sqlc.arg(shift), sqlc.arg(body_sealed), sqlc.narg(amends)
FROM client c
WHERE c.id = sqlc.arg(client_id) AND c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
RETURNING id, client_id, facility_id, shift, body_sealed, amends, author, created_at;

-- name: GetNote :one
SELECT n.id, n.client_id, n.facility_id, n.shift, n.body_sealed, n.amends, n.author, n.created_at
FROM shift_note n
WHERE n.id = sqlc.arg(id) AND n.facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: ListNotes :many
SELECT n.id, n.client_id, n.facility_id, n.shift, n.body_sealed, n.amends, n.author, n.created_at
FROM shift_note n
WHERE n.client_id = sqlc.arg(client_id) AND n.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND n.id < sqlc.arg(before)::uuid
ORDER BY n.id DESC
LIMIT sqlc.arg(page_size);
