-- name: CreateOrganization :exec
INSERT INTO organization (id, slug, legal_name, care_setting, state, sign_up_lapses_at, sign_up_address)
VALUES (@id, @slug, @legal_name, @care_setting, @state, now() + make_interval(secs => @lifetime_seconds::float8), @sign_up_address);

-- name: CloseSignUp :exec
UPDATE organization SET state = @state, state_reason = @state_reason, updated_at = now() WHERE id = @id;

-- name: OnboardingOrganization :one
SELECT o.id, o.slug, o.legal_name, o.care_setting, o.state, o.state_reason, o.created_at,
       coalesce((SELECT b.state FROM baa b WHERE b.organization_id = o.id ORDER BY b.created_at DESC, b.id DESC LIMIT 1), '')::text AS baa_state
FROM organization o WHERE o.id = @id;

-- name: EndSignUp :execrows
-- Closes a sign-up that nobody confirmed; its short name stays taken until it lapses.
UPDATE organization SET state = 'closed', state_reason = @state_reason, updated_at = now()
WHERE id = @id AND state = 'pending' AND sign_up_lapses_at IS NOT NULL;

-- name: ReleaseSignUps :many
-- Closes the sign-ups of an address that nobody confirmed and frees their short
-- names: with the mark that no short name has, nothing can be found by them.
UPDATE organization SET state = 'closed', updated_at = now(), sign_up_lapses_at = NULL,
    state_reason = CASE state WHEN 'pending' THEN @state_reason ELSE state_reason END,
    slug = slug || '~' || replace(id::text, '-', '')
WHERE sign_up_address = @sign_up_address AND sign_up_lapses_at IS NOT NULL AND state IN ('pending', 'closed')
RETURNING id;

-- name: LapsedSignUps :many
SELECT id FROM organization WHERE sign_up_lapses_at <= now() ORDER BY sign_up_lapses_at LIMIT @batch;

-- name: LapseSignUp :execrows
-- As ReleaseSignUps, for one whose time is over.
UPDATE organization SET state = 'closed', updated_at = now(), sign_up_lapses_at = NULL,
    state_reason = CASE state WHEN 'pending' THEN @state_reason ELSE state_reason END,
    slug = slug || '~' || replace(id::text, '-', '')
WHERE id = @id AND sign_up_lapses_at <= now() AND state IN ('pending', 'closed');
