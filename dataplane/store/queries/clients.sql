-- Clients. Every statement names the actor's facilities besides the policy: with
-- the explicit predicate the planner uses the index, with the policy alone it may not.

-- name: InsertClient :one
INSERT INTO client (id, facility_id, given_name_sealed, family_name_sealed, birth_date_sealed, sex_sealed, gender_sealed,
    record_number_sealed, phone_sealed, address_sealed, family_index, birth_date_index, record_number_index)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING id, facility_id, status, given_name_sealed, family_name_sealed, birth_date_sealed, sex_sealed, gender_sealed,
    record_number_sealed, phone_sealed, address_sealed, family_index, birth_date_index, record_number_index,
    version, created_by, created_at, updated_by, updated_at;

-- name: GetClient :one
SELECT c.id, c.facility_id, c.status, c.given_name_sealed, c.family_name_sealed, c.birth_date_sealed, c.sex_sealed, c.gender_sealed,
    c.record_number_sealed, c.phone_sealed, c.address_sealed, c.family_index, c.birth_date_index, c.record_number_index,
    c.version, c.created_by, c.created_at, c.updated_by, c.updated_at
FROM client c
WHERE c.id = sqlc.arg(id) AND c.facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: ClientFacility :one
SELECT c.facility_id
FROM client c
WHERE c.id = sqlc.arg(id) AND c.facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: LockClient :one
-- What replaces or moves a whole is one after the other: two at once would each
-- rest on what the other is about to change.
SELECT c.facility_id
FROM client c
WHERE c.id = sqlc.arg(id) AND c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
FOR NO KEY UPDATE;

-- name: ListClients :many
SELECT c.id, c.facility_id, c.status, c.given_name_sealed, c.family_name_sealed, c.birth_date_sealed, c.sex_sealed, c.gender_sealed,
    c.record_number_sealed, c.phone_sealed, c.address_sealed, c.family_index, c.birth_date_index, c.record_number_index,
    c.version, c.created_by, c.created_at, c.updated_by, c.updated_at
FROM client c
WHERE c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND c.id > sqlc.arg(after)::uuid
ORDER BY c.id
LIMIT sqlc.arg(page_size);

-- name: SearchByFamily :many
SELECT c.id, c.facility_id, c.status, c.given_name_sealed, c.family_name_sealed, c.birth_date_sealed, c.sex_sealed, c.gender_sealed,
    c.record_number_sealed, c.phone_sealed, c.address_sealed, c.family_index, c.birth_date_index, c.record_number_index,
    c.version, c.created_by, c.created_at, c.updated_by, c.updated_at
FROM client c
WHERE c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND c.family_index = sqlc.arg(family_index)
  AND (sqlc.narg(birth_date_index)::bytea IS NULL OR c.birth_date_index = sqlc.narg(birth_date_index)::bytea)
  AND c.id > sqlc.arg(after)::uuid
ORDER BY c.id
LIMIT sqlc.arg(page_size);

-- name: SearchByBirthDate :many
SELECT c.id, c.facility_id, c.status, c.given_name_sealed, c.family_name_sealed, c.birth_date_sealed, c.sex_sealed, c.gender_sealed,
    c.record_number_sealed, c.phone_sealed, c.address_sealed, c.family_index, c.birth_date_index, c.record_number_index,
    c.version, c.created_by, c.created_at, c.updated_by, c.updated_at
FROM client c
WHERE c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND c.birth_date_index = sqlc.arg(birth_date_index)
  AND c.id > sqlc.arg(after)::uuid
ORDER BY c.id
LIMIT sqlc.arg(page_size);

-- name: SearchByRecordNumber :many
SELECT c.id, c.facility_id, c.status, c.given_name_sealed, c.family_name_sealed, c.birth_date_sealed, c.sex_sealed, c.gender_sealed,
    c.record_number_sealed, c.phone_sealed, c.address_sealed, c.family_index, c.birth_date_index, c.record_number_index,
    c.version, c.created_by, c.created_at, c.updated_by, c.updated_at
FROM client c
WHERE c.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND c.record_number_index = sqlc.arg(record_number_index)
  AND (sqlc.narg(family_index)::bytea IS NULL OR c.family_index = sqlc.narg(family_index)::bytea)
  AND (sqlc.narg(birth_date_index)::bytea IS NULL OR c.birth_date_index = sqlc.narg(birth_date_index)::bytea)
  AND c.id > sqlc.arg(after)::uuid
ORDER BY c.id
LIMIT sqlc.arg(page_size);

-- name: UpdateClient :one
UPDATE client SET
    status = sqlc.arg(status), given_name_sealed = sqlc.arg(given_name_sealed), family_name_sealed = sqlc.arg(family_name_sealed),
    birth_date_sealed = sqlc.arg(birth_date_sealed), sex_sealed = sqlc.narg(sex_sealed), gender_sealed = sqlc.narg(gender_sealed),
    record_number_sealed = sqlc.narg(record_number_sealed), phone_sealed = sqlc.narg(phone_sealed), address_sealed = sqlc.narg(address_sealed),
    family_index = sqlc.arg(family_index), birth_date_index = sqlc.arg(birth_date_index), record_number_index = sqlc.narg(record_number_index)
WHERE id = sqlc.arg(id) AND version = sqlc.arg(version) AND facility_id = ANY (sqlc.arg(facilities)::uuid[])
RETURNING id, facility_id, status, given_name_sealed, family_name_sealed, birth_date_sealed, sex_sealed, gender_sealed,
    record_number_sealed, phone_sealed, address_sealed, family_index, birth_date_index, record_number_index,
    version, created_by, created_at, updated_by, updated_at;

-- name: MoveClient :execrows
UPDATE client SET facility_id = sqlc.arg(to_facility)
WHERE id = sqlc.arg(id) AND facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: InsertPlacement :exec
INSERT INTO client_placement (id, client_id, facility_id, from_facility_id, reason_sealed)
VALUES ($1, $2, $3, $4, $5);

-- name: ListPlacements :many
SELECT p.id, p.client_id, p.facility_id, p.from_facility_id, p.reason_sealed, p.placed_by, p.placed_at
FROM client_placement p
WHERE p.client_id = sqlc.arg(client_id) AND p.facility_id = ANY (sqlc.arg(facilities)::uuid[])
ORDER BY p.id
LIMIT 200;

-- name: InsertContact :one
INSERT INTO client_contact (id, client_id, facility_id, relationship, emergency, name_sealed, phone_sealed, email_sealed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, client_id, facility_id, relationship, emergency, name_sealed, phone_sealed, email_sealed, created_by, created_at;

-- name: GetContact :one
SELECT x.id, x.client_id, x.facility_id, x.relationship, x.emergency, x.name_sealed, x.phone_sealed, x.email_sealed, x.created_by, x.created_at
FROM client_contact x
WHERE x.id = sqlc.arg(id) AND x.client_id = sqlc.arg(client_id) AND x.facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: ListContacts :many
SELECT x.id, x.client_id, x.facility_id, x.relationship, x.emergency, x.name_sealed, x.phone_sealed, x.email_sealed, x.created_by, x.created_at
FROM client_contact x
WHERE x.client_id = sqlc.arg(client_id) AND x.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND x.id > sqlc.arg(after)::uuid
ORDER BY x.id
LIMIT sqlc.arg(page_size);

-- name: InsertAllergy :one
INSERT INTO client_allergy (id, client_id, facility_id, severity, substance_sealed, reaction_sealed)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id, client_id, facility_id, severity, substance_sealed, reaction_sealed, created_by, created_at;

-- name: GetAllergy :one
SELECT a.id, a.client_id, a.facility_id, a.severity, a.substance_sealed, a.reaction_sealed, a.created_by, a.created_at
FROM client_allergy a
WHERE a.id = sqlc.arg(id) AND a.client_id = sqlc.arg(client_id) AND a.facility_id = ANY (sqlc.arg(facilities)::uuid[]);

-- name: ListAllergies :many
SELECT a.id, a.client_id, a.facility_id, a.severity, a.substance_sealed, a.reaction_sealed, a.created_by, a.created_at
FROM client_allergy a
WHERE a.client_id = sqlc.arg(client_id) AND a.facility_id = ANY (sqlc.arg(facilities)::uuid[])
  AND a.id > sqlc.arg(after)::uuid
ORDER BY a.id
LIMIT sqlc.arg(page_size);

-- name: ListCareTeam :many
SELECT t.id, t.identity_id, m.name, m.role, t.duty, t.added_by, t.added_at
FROM care_team_member t
JOIN member m ON m.identity_id = t.identity_id
WHERE t.client_id = sqlc.arg(client_id) AND t.facility_id = ANY (sqlc.arg(facilities)::uuid[]) AND t.ended_at IS NULL
ORDER BY t.id
LIMIT 200;

-- name: EndCareTeamMembers :execrows
UPDATE care_team_member SET ended_at = now()
WHERE client_id = sqlc.arg(client_id) AND facility_id = ANY (sqlc.arg(facilities)::uuid[]) AND ended_at IS NULL;

-- name: InsertCareTeamMember :exec
INSERT INTO care_team_member (id, client_id, facility_id, identity_id, duty)
VALUES ($1, $2, $3, $4, $5);
