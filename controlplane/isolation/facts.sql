-- Everything that the catalog says of one schema and, if it has one, of its login
-- role: $1 the schema, $2 the role or '', $3 the table of applied migrations or ''.
-- One row a fact: what of, which property, its value; the statement that makes it
-- so and the one that takes it away, empty where a person has to decide; and
-- whether making it replaces what was. The rank orders statements.
--
-- What a schema holds is found by its dependencies, which have an index: the catalog's
-- tables have none by schema, and among ten thousand schemas each of its million rows
-- would be read for every tenant. OFFSET 0 keeps the planner from another order: a
-- condition IN (...) on the dependencies it tries on each row of the catalog instead.
-- hidden.sql finds what no dependency names.
WITH here AS (
    SELECT n.oid AS schema, (SELECT r.oid FROM pg_roles r WHERE r.rolname = $2::text) AS role
    FROM pg_namespace n WHERE n.nspname = $1::text
), held_type AS (
    SELECT y.typname, y.typtype, y.typrelid, y.typnamespace
    FROM here
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = here.schema AND d.classid = 'pg_type'::regclass
    CROSS JOIN LATERAL (SELECT y.* FROM pg_type y WHERE y.oid = d.objid OFFSET 0) y
), relation AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relpersistence, c.relreplident,
           format('%I.%I', $1::text, c.relname) AS q
    FROM here
    CROSS JOIN LATERAL (
        SELECT d.objid FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = here.schema AND d.classid = 'pg_class'::regclass
        UNION
        SELECT y.typrelid FROM held_type y WHERE y.typrelid <> 0) o
    CROSS JOIN LATERAL (SELECT c.* FROM pg_class c WHERE c.oid = o.objid OFFSET 0) c
    WHERE c.relnamespace = here.schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relname NOT IN ($3::text, $3::text || '_id_seq')
), routine AS (
    SELECT p.*
    FROM here
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = here.schema AND d.classid = 'pg_proc'::regclass
    CROSS JOIN LATERAL (SELECT p.* FROM pg_proc p WHERE p.oid = d.objid OFFSET 0) p
    WHERE p.pronamespace = here.schema
), acl AS (
    -- Grants on the schema, relations, columns and functions, one row each.
    SELECT 1 AS rank, 'schema' AS object, 'SCHEMA ' || quote_ident($1::text) AS target, '' AS col, n.nspowner AS owner,
           a.grantee, a.privilege_type, a.is_grantable
    FROM pg_namespace n, here, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.oid = here.schema
    UNION ALL
    SELECT 6, r.relname, CASE r.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || r.q, '', r.relowner, a.grantee, a.privilege_type, a.is_grantable
    FROM relation r, aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) a
    WHERE r.relkind <> 'c'
    UNION ALL
    SELECT 6, r.relname, 'TABLE ' || r.q, at.attname, r.relowner, a.grantee, a.privilege_type, a.is_grantable
    FROM relation r JOIN pg_attribute at ON at.attrelid = r.oid AND NOT at.attisdropped, aclexplode(at.attacl) a
    UNION ALL
    SELECT 6, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'FUNCTION ' || format('%I.%I', $1::text, p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')', '',
           p.proowner, a.grantee, a.privilege_type, a.is_grantable
    FROM routine p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.prokind IN ('f', 'p')
), named AS (
    SELECT acl.*, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE coalesce((SELECT quote_ident(rolname) FROM pg_roles WHERE oid = grantee), grantee::text) END AS who,
           privilege_type || CASE WHEN col = '' THEN '' ELSE ' (' || quote_ident(col) || ')' END AS what
    FROM acl
)
SELECT 0 AS rank, 'schema' AS object, 'owner' AS property, n.nspowner::regrole::text AS value,
       format('ALTER SCHEMA %I OWNER TO %s', $1::text, n.nspowner::regrole) AS make, '' AS unmake, true AS replaces
FROM pg_namespace n, here WHERE n.oid = here.schema
UNION ALL
SELECT rank, object, 'right of ' || who || ': ' || what, CASE WHEN is_grantable THEN 'with grant option' ELSE 'granted' END,
       format('GRANT %s ON %s TO %s', what, target, who) || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
       format('REVOKE %s ON %s FROM %s CASCADE', what, target, who), false
FROM named
UNION ALL
SELECT 2, relname, 'kind', relkind::text || relpersistence::text || relreplident::text, '',
       CASE WHEN relkind IN ('r', 'p') THEN 'table to set aside' WHEN relkind = 'v' THEN 'DROP VIEW ' || q WHEN relkind = 'm' THEN 'DROP MATERIALIZED VIEW ' || q
            WHEN relkind = 'f' THEN 'DROP FOREIGN TABLE ' || q WHEN relkind = 'S' THEN 'DROP SEQUENCE ' || q WHEN relkind = 'c' THEN 'DROP TYPE ' || q ELSE '' END, false
FROM relation
UNION ALL
SELECT 0, relname, 'owner', relowner::regrole::text, format('ALTER TABLE %s OWNER TO %s', q, relowner::regrole), '', true FROM relation WHERE relkind <> 'c'
UNION ALL
SELECT 3, relname, 'row security', CASE WHEN relrowsecurity THEN 'enabled' ELSE 'disabled' END,
       format('ALTER TABLE %s %s ROW LEVEL SECURITY', q, CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END), '', true FROM relation WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 3, relname, 'row security of the owner', CASE WHEN relforcerowsecurity THEN 'forced' ELSE 'not forced' END,
       format('ALTER TABLE %s %s ROW LEVEL SECURITY', q, CASE WHEN relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END), '', true FROM relation WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 3, relname, 'option ' || o, 'set', format('ALTER TABLE %s SET (%s)', q, o), format('ALTER TABLE %s RESET (%s)', q, split_part(o, '=', 1)), false
FROM relation, unnest(reloptions) o
UNION ALL
SELECT 2, r.relname, 'column ' || a.attname, format_type(a.atttypid, a.atttypmod) || coalesce(' collate ' || nullif(a.attcollation::regcollation::text, '"default"'), '')
       || CASE WHEN a.attidentity <> '' THEN ' identity ' || a.attidentity::text ELSE '' END || CASE WHEN a.attgenerated <> '' THEN ' generated' ELSE '' END,
       '', '', false
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE r.relkind <> 'S'
UNION ALL
SELECT 2, r.relname, 'null in ' || a.attname, 'refused', format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', r.q, a.attname), format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', r.q, a.attname), false
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull WHERE r.relkind IN ('r', 'p')
UNION ALL
SELECT 2, r.relname, 'default of ' || a.attname, pg_get_expr(d.adbin, d.adrelid), format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', r.q, a.attname, pg_get_expr(d.adbin, d.adrelid)),
       format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', r.q, a.attname), true
FROM relation r JOIN pg_attrdef d ON d.adrelid = r.oid JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = d.adnum
UNION ALL
SELECT 4, r.relname, 'constraint ' || c.conname, pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' not valid' END,
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', r.q, c.conname, pg_get_constraintdef(c.oid)), format('ALTER TABLE %s DROP CONSTRAINT %I', r.q, c.conname), false
FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL
SELECT 4, r.relname, 'index ' || i.relname, pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' invalid' END,
       pg_get_indexdef(x.indexrelid), format('DROP INDEX %I.%I', $1::text, i.relname), false
FROM relation r JOIN pg_index x ON x.indrelid = r.oid JOIN pg_class i ON i.oid = x.indexrelid
WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.indexrelid AND c.contype IN ('p', 'u', 'x') AND c.conrelid = r.oid)
UNION ALL
SELECT 5, r.relname, 'trigger ' || t.tgname, pg_get_triggerdef(t.oid), pg_get_triggerdef(t.oid), format('DROP TRIGGER %I ON %s', t.tgname, r.q), false
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT 7, r.relname, 'firing of trigger ' || t.tgname, CASE t.tgenabled WHEN 'O' THEN 'on' WHEN 'A' THEN 'always' WHEN 'R' THEN 'on a replica only' ELSE 'disabled' END,
       format('ALTER TABLE %s %s TRIGGER %I', r.q, CASE t.tgenabled WHEN 'O' THEN 'ENABLE' WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'DISABLE' END, t.tgname), '', true
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
-- A foreign key's own triggers: their names hold numbers, so only faults are facts.
SELECT 5, r.relname, 'reference ' || coalesce(c.conname, '') || ' is not checked by ' || t.tgname, t.tgenabled::text, '', format('ALTER TABLE %s ENABLE TRIGGER %I', r.q, t.tgname), false
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND t.tgisinternal AND t.tgenabled <> 'O' LEFT JOIN pg_constraint c ON c.oid = t.tgconstraint
UNION ALL
SELECT 5, r.relname, 'rule ' || w.rulename, pg_get_ruledef(w.oid), CASE WHEN r.relkind IN ('r', 'p') THEN pg_get_ruledef(w.oid) ELSE '' END,
       CASE WHEN r.relkind IN ('r', 'p') THEN format('DROP RULE %I ON %s', w.rulename, r.q) ELSE '' END, false
FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid
UNION ALL
SELECT 5, r.relname, 'policy ' || p.polname, d.text, format('CREATE POLICY %I ON %s %s', p.polname, r.q, d.text), format('DROP POLICY %I ON %s', p.polname, r.q), false
FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
CROSS JOIN LATERAL (SELECT concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END,
    'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', ' ORDER BY 1) FROM unnest(p.polroles) role),
    'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS text) d
UNION ALL
SELECT 2, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'function', pg_get_functiondef(p.oid), pg_get_functiondef(p.oid),
       format('DROP FUNCTION %I.%I(%s)', $1::text, p.proname, pg_get_function_identity_arguments(p.oid)), true
FROM routine p WHERE p.prokind IN ('f', 'p')
UNION ALL
SELECT 0, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'owner', p.proowner::regrole::text,
       format('ALTER FUNCTION %I.%I(%s) OWNER TO %s', $1::text, p.proname, pg_get_function_identity_arguments(p.oid), p.proowner::regrole), '', true
FROM routine p WHERE p.prokind IN ('f', 'p')
UNION ALL
-- What this query has no words for is counted, so that it does not go unseen.
SELECT 8, 'schema', 'other objects: ' || d.classid::regclass, count(*)::text, '', '', true
FROM pg_depend d, here WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = here.schema
  AND d.classid NOT IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_default_acl'::regclass)
GROUP BY d.classid
UNION ALL
SELECT 8, 'schema', 'type ' || t.typname, t.typtype::text, '', format('DROP TYPE %I.%I', $1::text, t.typname), false
FROM here JOIN held_type t ON t.typnamespace = here.schema
WHERE t.typtype IN ('e', 'd', 'r', 'm')
UNION ALL
SELECT 8, 'schema', 'aggregate or window function ' || p.proname, p.prokind::text, '', '', false
FROM routine p WHERE p.prokind NOT IN ('f', 'p')
UNION ALL
SELECT 9, 'schema', format('default right of %s on new %s by %s: %s', w.who, o.kind, d.defaclrole::regrole, a.privilege_type), 'granted',
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT %s ON %s TO %s', d.defaclrole::regrole, $1::text, a.privilege_type, o.kind, w.who),
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I REVOKE %s ON %s FROM %s', d.defaclrole::regrole, $1::text, a.privilege_type, o.kind, w.who), false
FROM pg_default_acl d CROSS JOIN here, aclexplode(d.defaclacl) a,
     LATERAL (SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END AS kind) o,
     LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS who) w
WHERE d.defaclnamespace = here.schema
UNION ALL
-- The login role. Whether it may log in is the gate's business.
SELECT 0, 'login role', f.name, f.value, format('ALTER ROLE %I %s', $2::text, f.sql), '', true
FROM pg_roles r CROSS JOIN LATERAL (VALUES
    ('superuser', r.rolsuper::text, CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END),
    ('bypasses row security', r.rolbypassrls::text, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END),
    ('replication', r.rolreplication::text, CASE WHEN r.rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END),
    ('makes roles', r.rolcreaterole::text, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END),
    ('makes databases', r.rolcreatedb::text, CASE WHEN r.rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END),
    ('inherits', r.rolinherit::text, CASE WHEN r.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END),
    ('connections', r.rolconnlimit::text, 'CONNECTION LIMIT ' || r.rolconnlimit)) f(name, value, sql)
WHERE r.rolname = $2::text
UNION ALL
SELECT 0, 'login role', 'setting ' || split_part(c, '=', 1), substr(c, strpos(c, '=') + 1),
       format('ALTER ROLE %I SET %I = %L', $2::text, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)), format('ALTER ROLE %I RESET %I', $2::text, split_part(c, '=', 1)), true
FROM pg_roles r, unnest(r.rolconfig) c WHERE r.rolname = $2::text
UNION ALL
SELECT 0, 'login role', 'member of ' || m.roleid::regrole, 'yes', format('GRANT %s TO %I', m.roleid::regrole, $2::text), format('REVOKE %s FROM %I', m.roleid::regrole, $2::text), false
FROM pg_auth_members m, here WHERE m.member = here.role
UNION ALL
SELECT 0, 'login role', 'has the member ' || m.member::regrole, 'yes', format('GRANT %I TO %s', $2::text, m.member::regrole), format('REVOKE %I FROM %s', $2::text, m.member::regrole), false
FROM pg_auth_members m, here WHERE m.roleid = here.role
UNION ALL
SELECT 0, 'login role', CASE d.deptype WHEN 'o' THEN 'owns ' ELSE 'has a right on ' END
       || CASE WHEN d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) THEN pg_describe_object(d.classid, d.objid, d.objsubid) ELSE 'something in another database' END, 'yes', '',
       CASE WHEN d.deptype = 'a' AND d.classid = 'pg_class'::regclass AND d.dbid <> 0 THEN 'REVOKE ALL ON ' || d.objid::regclass || ' FROM ' || quote_ident($2::text)
            WHEN d.deptype = 'a' AND d.classid = 'pg_namespace'::regclass AND d.dbid <> 0 THEN 'REVOKE ALL ON SCHEMA ' || d.objid::regnamespace || ' FROM ' || quote_ident($2::text)
            WHEN d.deptype = 'a' AND d.classid = 'pg_proc'::regclass AND d.dbid <> 0 THEN 'REVOKE ALL ON FUNCTION ' || d.objid::regprocedure || ' FROM ' || quote_ident($2::text)
            ELSE '' END, false
FROM pg_shdepend d, here
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = here.role AND d.deptype IN ('a', 'o')
  -- What lies in its schema is among the facts above, as is the right to connect.
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class c WHERE c.oid = d.objid AND c.relnamespace = here.schema))
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = d.objid AND p.pronamespace = here.schema))
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_namespace'::regclass AND d.objid = here.schema)
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_database'::regclass)
  AND NOT (d.deptype = 'a' AND d.classid = 'pg_default_acl'::regclass)
ORDER BY 1, 2, 3
