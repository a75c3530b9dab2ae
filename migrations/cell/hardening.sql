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
-- does not need these rights. Columns' grants name roles, and so does the list of
-- types in information_schema, for every tenant's tables are types too.
DO $$
DECLARE
    r regclass;
BEGIN
    FOR r IN
        SELECT c.oid FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'pg_catalog'::regnamespace
          AND (c.relname ~ '^pg_stat' OR c.relname IN (
               'pg_attrdef', 'pg_attribute', 'pg_auth_members', 'pg_class', 'pg_constraint', 'pg_database',
               'pg_db_role_setting', 'pg_default_acl', 'pg_depend', 'pg_description', 'pg_group', 'pg_index',
               'pg_indexes', 'pg_inherits', 'pg_init_privs', 'pg_largeobject_metadata', 'pg_locks',
               'pg_matviews', 'pg_namespace', 'pg_policies', 'pg_policy', 'pg_prepared_xacts', 'pg_proc',
               'pg_publication', 'pg_publication_namespace', 'pg_publication_rel', 'pg_publication_tables',
               'pg_rewrite', 'pg_roles', 'pg_rules', 'pg_seclabel', 'pg_seclabels', 'pg_sequence', 'pg_sequences',
               'pg_shdepend', 'pg_shdescription', 'pg_shseclabel', 'pg_tables', 'pg_trigger', 'pg_type', 'pg_user', 'pg_views'))
          AND c.relkind IN ('r', 'v')
          AND c.relname NOT IN ('pg_statistic', 'pg_statistic_ext_data')
        UNION ALL
        SELECT 'information_schema.udt_privileges'::regclass
    LOOP
        EXECUTE format('REVOKE SELECT ON %s FROM PUBLIC', r);
        EXECUTE format('GRANT SELECT ON %s TO cell_owner, cell_sealer, cell_worker', r);
    END LOOP;
END
$$;

-- The functions under those views tell the same to whoever calls them directly, and
-- take any object's number: who is connected, who holds which lock, how large
-- another's table is and how often it was written, what its policies say. Messages in
-- the write-ahead log are read by nobody and cost everybody disk.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND (p.proname ~ '^pg_stat_(get|reset)' OR p.proname ~ '^pg_control_' OR p.proname ~ '^pg_logical_'
               OR p.proname ~ '^pg_get_(constraint|expr|function|index|multixact|object|part|publication|replica|replication|rule|serial|statistics|trigger|userbyid|view)'
               OR p.proname IN ('pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_isolation_test_session_is_blocked',
                                'pg_lock_status', 'pg_prepared_xact', 'pg_last_committed_xact',
                                'pg_describe_object', 'pg_identify_object', 'pg_identify_object_as_address',
                                'pg_relation_size', 'pg_table_size', 'pg_indexes_size', 'pg_total_relation_size',
                                'pg_database_size', 'pg_tablespace_size', 'pg_tablespace_databases',
                                'pg_relation_filenode', 'pg_relation_filepath', 'pg_filenode_relation',
                                'pg_sequence_last_value', 'pg_sequence_parameters', 'pg_partition_tree', 'pg_partition_ancestors'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO cell_owner, cell_sealer, cell_worker', f);
    END LOOP;
END
$$;
