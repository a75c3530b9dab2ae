-- What judging a statement needs of a cell's catalog, as (what, name).
WITH tenant AS (
    SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname ~ '^t_[0-9a-f]{32}$'
), tables AS (
    SELECT DISTINCT c.relname FROM pg_class c JOIN tenant t ON t.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
)
SELECT 'schema', nspname::text FROM tenant
UNION ALL SELECT 'table', relname::text FROM tables
UNION ALL SELECT 'trail', relname::text FROM tables WHERE relname ~ '^audit_'
-- Clinical is what is kept by facility: a policy of it asks for the facilities.
UNION ALL
SELECT DISTINCT 'clinical', c.relname::text
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN tenant t ON t.oid = c.relnamespace
WHERE (pg_get_expr(p.polqual, p.polrelid) ~ 'ctx_facilities' OR pg_get_expr(p.polwithcheck, p.polrelid) ~ 'ctx_facilities')
  AND c.relname <> 'facility'
-- Views anywhere, and tables that are neither the server's, the cell's nor a tenant's.
UNION ALL
SELECT DISTINCT 'other', c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND (c.relkind IN ('v', 'm', 'f') OR (c.relkind IN ('r', 'p') AND n.nspname NOT IN ('cell', 'public') AND n.nspname !~ '^t_[0-9a-f]{32}$'))
UNION ALL
SELECT DISTINCT CASE n.nspname WHEN 'cell' THEN 'ours' ELSE 'function' END, p.proname::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('pg_catalog', 'cell')
UNION ALL
SELECT 'keyword', word FROM pg_get_keywords()
