-- Run by a superuser in any database of a cell's cluster, at every start of a local
-- stack and after a login role was added: whoever can read clinical tables without
-- row-level security, or change it, has every statement written to the server's
-- log. Tenants' roles leave marks instead (0003_access_mark.sql); roles that hold no
-- right on clinical tables leave their DDL (log_statement = 'ddl' for everybody).
-- `caresphere audit reconcile` reads that log.
DO $$
DECLARE
    r name;
BEGIN
    FOR r IN SELECT rolname FROM pg_catalog.pg_roles
             WHERE rolsuper OR rolname = 'cell_owner'
    LOOP
        EXECUTE format('ALTER ROLE %I SET log_statement = ''all''', r);
    END LOOP;
END
$$;
