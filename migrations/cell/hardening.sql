-- Run by a superuser in a cell's database, after its roles are made and before
-- any tenant: it takes from PUBLIC what PostgreSQL gives to everybody and only a
-- superuser may take away. It may run again at any time. It is not part of the
-- numbered set: cell_owner, who runs that, could not.

-- Who may connect is said role by role; nobody makes temporary tables or objects
-- in public.
DO $$
DECLARE
    db text := current_database();
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', db);
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO cell_owner WITH GRANT OPTION', db);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO cell_worker, cell_sealer', db);
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO cell_owner;

-- Large objects belong to no schema and no row policy covers them. Advisory locks
-- are one namespace for the whole database, so one tenant could hold up another
-- or the migrations. Backend functions that signal, sleep in bulk or read files
-- are already limited to superusers and to a backend's own role.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND (p.proname ~ '^lo_' OR p.proname IN ('loread', 'lowrite')
               OR p.proname ~ '^pg_(try_)?advisory_')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        IF f::text ~ 'advisory' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO cell_owner, cell_sealer', f);
        END IF;
    END LOOP;
END
$$;

-- Catalogs and statistics that would tell one tenant how many others there are,
-- what they are called and how much they write. Planning and running a query
-- does not need these rights.
DO $$
DECLARE
    r regclass;
BEGIN
    FOR r IN
        SELECT c.oid FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'pg_catalog'::regnamespace
          AND (c.relname ~ '^pg_stat' OR c.relname IN (
               'pg_auth_members', 'pg_class', 'pg_database', 'pg_db_role_setting', 'pg_default_acl',
               'pg_group', 'pg_indexes', 'pg_init_privs', 'pg_largeobject_metadata', 'pg_locks',
               'pg_matviews', 'pg_namespace', 'pg_policies', 'pg_policy', 'pg_prepared_xacts', 'pg_proc',
               'pg_roles', 'pg_rules', 'pg_sequences', 'pg_shdepend', 'pg_shdescription', 'pg_tables',
               'pg_trigger', 'pg_user', 'pg_views'))
          AND c.relkind IN ('r', 'v')
          AND c.relname NOT IN ('pg_statistic', 'pg_statistic_ext_data')
    LOOP
        EXECUTE format('REVOKE SELECT ON %s FROM PUBLIC', r);
        EXECUTE format('GRANT SELECT ON %s TO cell_owner, cell_sealer, cell_worker', r);
    END LOOP;
END
$$;
