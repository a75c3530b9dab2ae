-- name: InsertMail :exec
INSERT INTO mail (id, recipient, template, subject, body) VALUES (@id, @recipient, @template, @subject, @body);

-- name: ClaimMail :one
-- The next mail to deliver; its next try moves away first, so that a crash while
-- sending repeats it later and two senders never hold the same one.
UPDATE mail SET tries = tries + 1, next_at = now() + make_interval(secs => least(3600, 30 * power(2, tries)))
WHERE id = (SELECT m.id FROM mail m WHERE m.sent_at IS NULL AND m.next_at <= now() AND m.tries < 12
            ORDER BY m.next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, recipient, template, subject, body, made_at, tries;

-- name: MailSent :exec
-- A mail holds a one-time code: once it is on its way nobody needs its text here.
UPDATE mail SET sent_at = now(), reason = '', body = '' WHERE id = @id;

-- name: MailFailed :exec
UPDATE mail SET reason = @reason WHERE id = @id;

-- name: ListMail :many
SELECT id, recipient, template, subject, body, made_at FROM mail
WHERE (@recipient::text = '' OR recipient = @recipient) ORDER BY made_at DESC, id DESC LIMIT @count;
