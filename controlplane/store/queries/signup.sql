-- name: CreateOrganization :exec
INSERT INTO organization (id, slug, legal_name, care_setting, state, state_reason)
VALUES (@id, @slug, @legal_name, @care_setting, @state, @state_reason);

-- name: SlugTaken :one
SELECT EXISTS (SELECT 1 FROM organization WHERE slug = @slug);

-- name: OnboardingOrganization :one
SELECT o.id, o.slug, o.legal_name, o.care_setting, o.state, o.state_reason, o.created_at,
       coalesce((SELECT b.state FROM baa b WHERE b.organization_id = o.id ORDER BY b.created_at DESC, b.id DESC LIMIT 1), '')::text AS baa_state
FROM organization o WHERE o.id = @id;
