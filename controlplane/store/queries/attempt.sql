-- name: TakeAttempt :one
-- Counts one try and returns how many the window holds with it, and how many the
-- window before it held.
INSERT INTO attempt (bucket, subject, window_start, tries) VALUES (@bucket, @subject, @window_start, 1)
ON CONFLICT (bucket, subject, window_start) DO UPDATE SET tries = attempt.tries + 1
RETURNING tries, COALESCE((SELECT p.tries FROM attempt p
    WHERE p.bucket = @bucket AND p.subject = @subject AND p.window_start = @previous_start), 0)::int AS previous;

-- name: ClearAttempts :exec
DELETE FROM attempt WHERE bucket = @bucket AND subject = @subject;

-- name: PurgeAttempts :exec
DELETE FROM attempt WHERE window_start < @before;

-- name: TakeTOTP :execrows
-- One row for whoever presents a code first; a code may come back by chance once
-- its validity is long over.
INSERT INTO totp_used (identity_id, code_hash) VALUES (@identity_id, @code_hash)
ON CONFLICT (identity_id, code_hash) DO UPDATE SET used_at = now()
WHERE totp_used.used_at < now() - interval '10 minutes';

-- name: PurgeTOTP :exec
DELETE FROM totp_used WHERE used_at < now() - interval '1 hour';
