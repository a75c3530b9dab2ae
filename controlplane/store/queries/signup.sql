-- name: CreateOrganization :exec
INSERT INTO organization (id, slug, legal_name, care_setting, state)
VALUES (@id, @slug, @legal_name, @care_setting, @state);

-- name: CloseSignUp :exec
UPDATE organization SET state = @state, state_reason = @state_reason, updated_at = now() WHERE id = @id;

-- name: OnboardingOrganization :one
SELECT o.id, o.slug, o.legal_name, o.care_setting, o.state, o.state_reason, o.created_at,
       coalesce((SELECT b.state FROM baa b WHERE b.organization_id = o.id ORDER BY b.created_at DESC, b.id DESC LIMIT 1), '')::text AS baa_state
FROM organization o WHERE o.id = @id;
