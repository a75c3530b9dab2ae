-- name: IdempotentAnswer :one
SELECT operation, request_hash, status, response FROM idempotency_key WHERE actor = @actor AND key = @key;

-- name: KeepIdempotentAnswer :exec
INSERT INTO idempotency_key (actor, key, operation, request_hash, status, response)
VALUES (@actor, @key, @operation, @request_hash, @status, @response);

-- name: PurgeIdempotencyKeys :exec
DELETE FROM idempotency_key WHERE made_at < @before;
