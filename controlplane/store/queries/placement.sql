-- name: PlacementRoutes :many
-- The public routes: a gate that is not closed, in a place that exists.
SELECT slug, id, cell_id, placement_epoch, gate_mode, gate_until
FROM organization
WHERE gate_mode <> 'closed' AND placement_epoch > 0 AND cell_id IS NOT NULL AND gate_until IS NOT NULL
ORDER BY slug;

-- name: PlacementWorkers :many
SELECT id, cell_id, url
FROM worker
ORDER BY id;

-- name: WorkerLock :one
SELECT id, cell_id, url
FROM worker
WHERE id = @id
FOR UPDATE;

-- name: WorkerPut :exec
INSERT INTO worker (id, cell_id, url, last_seen)
VALUES (@id, @cell_id, @url, now())
ON CONFLICT ON CONSTRAINT worker_pk
DO UPDATE SET cell_id = excluded.cell_id, url = excluded.url, last_seen = excluded.last_seen;

-- name: WorkerDelete :execrows
DELETE FROM worker WHERE id = @id;

-- name: WorkerDeleteStale :many
DELETE FROM worker WHERE last_seen < @before RETURNING id;

-- name: CellExists :one
SELECT EXISTS (SELECT 1 FROM cell WHERE id = @id) AS known;
