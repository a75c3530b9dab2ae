-- name: SubscriptionStart :exec
INSERT INTO subscription (organization_id, plan, status)
VALUES (@organization_id, @plan, @status)
ON CONFLICT ON CONSTRAINT subscription_pk DO NOTHING;

-- name: SubscriptionGet :one
SELECT s.organization_id, s.plan, s.stripe_customer, s.stripe_subscription, s.status, s.updated_at, o.slug, o.legal_name
FROM subscription s
JOIN organization o ON o.id = s.organization_id
WHERE s.organization_id = @organization_id;

-- name: SubscriptionSet :execrows
-- Only one that is not made yet, and an id that is known stays: whoever comes late
-- changes nothing.
UPDATE subscription
SET plan = @plan, stripe_customer = coalesce(stripe_customer, sqlc.narg(stripe_customer)),
    stripe_subscription = coalesce(stripe_subscription, sqlc.narg(stripe_subscription)),
    status = @status, updated_at = now()
WHERE organization_id = @organization_id AND status = 'pending';
