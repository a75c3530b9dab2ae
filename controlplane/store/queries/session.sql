-- name: TouchSession :execrows
-- Records a use. No row means that the session was idle for too long: neither
-- used nor authenticated since the limit.
INSERT INTO console_session (realm, session_id, identity_id)
SELECT @realm, @session_id, @identity_id WHERE @authenticated_at::timestamptz > @idle_since::timestamptz
   OR EXISTS (SELECT 1 FROM console_session s WHERE s.realm = @realm AND s.session_id = @session_id AND s.last_seen > @idle_since)
ON CONFLICT (realm, session_id) DO UPDATE SET last_seen = now();

-- name: PurgeSessions :exec
DELETE FROM console_session WHERE last_seen < @before;
