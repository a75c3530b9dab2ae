-- What must not be, for one tenant: $1 the schema, $2 the login role, $3 the table
-- of applied migrations. One row a finding: the object, and what is wrong with it.
WITH tenant AS (
    SELECT n.oid AS schema, r.oid AS role
    FROM (VALUES (1)) one
    LEFT JOIN pg_namespace n ON n.nspname = $1
    LEFT JOIN pg_roles r ON r.rolname = $2
), relation AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.relname = $3 AS ledger
    -- By the dependency, which has an index, and not by the schema, which has none. OFFSET 0
    -- keeps the planner from trying each of the catalog's rows.
    FROM tenant t
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = t.schema AND d.classid = 'pg_class'::regclass
    CROSS JOIN LATERAL (SELECT c.* FROM pg_class c WHERE c.oid = d.objid OFFSET 0) c
    WHERE c.relnamespace = t.schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), routine AS (
    SELECT p.proname, p.proacl, p.prosecdef
    FROM tenant t
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = t.schema AND d.classid = 'pg_proc'::regclass
    CROSS JOIN LATERAL (SELECT p.* FROM pg_proc p WHERE p.oid = d.objid OFFSET 0) p
    WHERE p.pronamespace = t.schema
), grants AS (
    SELECT r.relname, r.relkind, r.relowner, r.ledger, a.grantee, a.privilege_type, a.is_grantable, NULL::name AS attname
    FROM relation r, aclexplode(r.relacl) a
    UNION ALL
    SELECT r.relname, r.relkind, r.relowner, r.ledger, a.grantee, a.privilege_type, a.is_grantable, at.attname
    FROM relation r JOIN pg_attribute at ON at.attrelid = r.oid AND NOT at.attisdropped, aclexplode(at.attacl) a
)
SELECT $1::text AS object, 'the schema is missing'::text AS finding FROM tenant WHERE schema IS NULL
UNION ALL
SELECT $2, 'the login role is missing' FROM tenant WHERE role IS NULL
UNION ALL
SELECT $1, 'the schema belongs to another role' FROM pg_namespace n, tenant t
WHERE n.oid = t.schema AND n.nspowner <> current_user::regrole
UNION ALL
SELECT $1, 'the schema is granted to ' || CASE a.grantee WHEN 0 THEN 'everybody' ELSE a.grantee::regrole::text END || ': ' || a.privilege_type
FROM pg_namespace n, tenant t, aclexplode(n.nspacl) a
WHERE n.oid = t.schema AND a.grantee <> n.nspowner
  AND NOT (a.privilege_type = 'USAGE' AND NOT a.is_grantable AND a.grantee IN (t.role, to_regrole('cell_sealer')))
UNION ALL
SELECT $2, 'the login role has an attribute that it must not have' FROM pg_roles r, tenant t
WHERE r.oid = t.role AND (r.rolsuper OR r.rolinherit OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
UNION ALL
SELECT $2, 'the login role is a member of ' || m.roleid::regrole FROM pg_auth_members m, tenant t WHERE m.member = t.role
UNION ALL
SELECT $2, 'the login role has a member: ' || m.member::regrole FROM pg_auth_members m, tenant t WHERE m.roleid = t.role
UNION ALL
SELECT $2, 'the login role owns something' FROM pg_shdepend d, tenant t
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = t.role AND d.deptype = 'o'
UNION ALL
SELECT c.oid::regclass::text, 'the login role has a right outside its schema'
FROM tenant t, pg_shdepend d CROSS JOIN LATERAL (SELECT c.oid, c.relnamespace FROM pg_class c WHERE c.oid = d.objid OFFSET 0) c
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = t.role AND d.deptype = 'a' AND d.classid = 'pg_class'::regclass
  AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND c.relnamespace <> t.schema
UNION ALL
SELECT relname::text, 'the table belongs to another role' FROM relation WHERE relowner <> current_user::regrole
UNION ALL
SELECT relname::text, 'row-level security is not enabled and forced' FROM relation
WHERE relkind IN ('r', 'p') AND NOT ledger AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT relname::text, 'a view passes row-level security by' FROM relation WHERE relkind IN ('v', 'm', 'f')
UNION ALL
SELECT r.relname::text, 'the table has no policy' FROM relation r
WHERE r.relkind IN ('r', 'p') AND NOT r.ledger AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid)
UNION ALL
SELECT r.relname::text, 'the policy ' || p.polname || ' is for all commands at once' FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
WHERE p.polcmd = '*'
UNION ALL
SELECT relname::text, 'is granted to ' || CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END || ': ' || privilege_type
FROM grants, tenant
WHERE grantee <> relowner AND (ledger OR grantee IS NULL OR is_grantable
    OR NOT (grantee IN (tenant.role, to_regrole('cell_sealer')))
    OR privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')
    -- A whole row may be read or deleted; what is written is named by column.
    OR (grantee = tenant.role AND attname IS NULL AND privilege_type IN ('INSERT', 'UPDATE')))
UNION ALL
SELECT p.proname::text, 'anybody may run the function' FROM routine p
WHERE (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
UNION ALL
SELECT p.proname::text, 'the function runs with its owner''s rights' FROM routine p
WHERE p.prosecdef
ORDER BY 1, 2
