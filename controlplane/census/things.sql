-- What the cell's database holds of organizations, one row each: its kind, and the
-- organization's id in hexadecimal as its name spells it.
SELECT 'schema' AS kind, substr(nspname, 3) AS tenant FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{32}$'
UNION ALL
-- Roles belong to the server: those count that may connect to this database.
SELECT 'role', substr(rolname, 3) FROM pg_roles
WHERE rolname ~ '^t_[0-9a-f]{32}$' AND has_database_privilege(oid, current_database(), 'CONNECT')
UNION ALL
SELECT 'credential', replace(tenant_id::text, '-', '') FROM cell.tenant_credential
UNION ALL
SELECT 'context key', substr(role_name, 3) FROM cell.context_key
UNION ALL
SELECT 'fence', replace(tenant_id::text, '-', '') FROM cell.tenant_fence
