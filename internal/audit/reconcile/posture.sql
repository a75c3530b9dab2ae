-- In what way the record is not kept as it must be, one sentence a row.
SELECT 'the server''s setting ' || s.name || ' is ' || current_setting(s.name) || ': ' || s.why
FROM (VALUES
    ('logging_collector', 'on', 'nothing is recorded'),
    ('log_connections', 'on', 'sessions that hide their statements are not seen'),
    ('log_disconnections', 'on', 'sessions that hide their statements are not seen'),
    ('log_parameter_max_length', '0', 'values would be recorded'),
    ('log_parameter_max_length_on_error', '0', 'values would be recorded'),
    ('log_timezone', 'UTC', 'times in the record cannot be compared')
) s(name, want, why)
WHERE current_setting(s.name) <> s.want
UNION ALL
SELECT 'the server''s setting log_destination is ' || current_setting('log_destination') || ': nothing is recorded as JSON lines'
WHERE current_setting('log_destination') !~ '\mjsonlog\M'
UNION ALL
SELECT 'the server''s setting log_min_messages is ' || current_setting('log_min_messages') || ': marks and statements are not recorded'
WHERE current_setting('log_min_messages') IN ('fatal', 'panic')
UNION ALL
SELECT 'the server''s setting log_statement is none: DDL is not recorded' WHERE current_setting('log_statement') = 'none'
UNION ALL
-- Who may log in here, is no tenant, and leaves no record of its statements.
SELECT 'role ' || r.rolname || ' can reach clinical tables and its statements are not recorded'
FROM pg_roles r
WHERE r.rolcanlogin AND r.rolname !~ '^t_[0-9a-f]{32}$'
  AND has_database_privilege(r.oid, current_database(), 'CONNECT')
  AND NOT EXISTS (
      SELECT FROM pg_db_role_setting d
      WHERE d.setrole = r.oid AND d.setdatabase = 0 AND 'log_statement=all' = ANY (d.setconfig)
        AND NOT EXISTS (SELECT FROM pg_db_role_setting o, unnest(o.setconfig) c
                        WHERE (o.setrole = r.oid OR o.setrole = 0) AND o.setdatabase <> 0 AND c ~ '^log_(statement|min_messages)='))
  AND (r.rolsuper OR r.rolreplication OR EXISTS (
      SELECT FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname ~ '^t_[0-9a-f]{32}$' AND c.relname <> 'facility' AND c.relname !~ '^audit_'
        AND pg_get_expr(p.polqual, p.polrelid) ~ 'ctx_facilities'
        AND (has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE'))))
