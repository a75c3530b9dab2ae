-- Relations, routines and types of tenants' schemas that no dependency names: nothing
-- makes such, but whoever writes in the catalog's tables. One row each: what, and its
-- schema.
SELECT n.nspname::text, 'relation ' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname ~ '^t_[0-9a-f]{32}$' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
UNION ALL
SELECT n.nspname::text, 'routine ' || p.proname
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname ~ '^t_[0-9a-f]{32}$'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
UNION ALL
SELECT n.nspname::text, 'type ' || t.typname
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname ~ '^t_[0-9a-f]{32}$' AND (t.typtype IN ('e', 'd', 'r', 'm') OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
ORDER BY 1, 2
LIMIT 100
