-- Some changes of a table have no row in the log: a column that is added with a default, a table that is
-- dropped or rewritten, a partition that is attached, a value of an enum that is renamed. These triggers
-- say the table's name in the log, and its caches are dropped. Creating them needs a superuser; without
-- them such a change is seen at the next row of the table.

CREATE OR REPLACE FUNCTION /*schema*/.unstale_altered()
RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    PERFORM pg_logical_emit_message(true, 'unstale', convert_to(
        jsonb_build_array('d', altered.nspname, altered.relname)::text, 'UTF8'))
    FROM (
        WITH RECURSIVE altered(oid) AS (
            SELECT d.objid FROM pg_event_trigger_ddl_commands() d
            WHERE d.classid = 'pg_class'::regclass AND d.command_tag = 'ALTER TABLE'
            UNION
            SELECT a.attrelid
            FROM pg_event_trigger_ddl_commands() d
            JOIN pg_type t ON d.objid IN (t.oid, t.typelem, t.typbasetype)
            JOIN pg_attribute a ON a.atttypid = t.oid AND NOT a.attisdropped
            WHERE d.classid = 'pg_type'::regclass AND d.command_tag = 'ALTER TYPE'
            UNION
            SELECT i.inhrelid FROM pg_inherits i JOIN altered ON i.inhparent = altered.oid
        )
        SELECT n.nspname, c.relname
        FROM altered
        JOIN pg_class c ON c.oid = altered.oid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
    ) AS altered;
END $unstale$;

CREATE OR REPLACE FUNCTION /*schema*/.unstale_dropped()
RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    PERFORM pg_logical_emit_message(true, 'unstale', convert_to(
        jsonb_build_array('d', dropped.names[1], dropped.names[2])::text, 'UTF8'))
    FROM (
        SELECT DISTINCT o.address_names[1:2] AS names
        FROM pg_event_trigger_dropped_objects() o
        WHERE o.object_type IN ('table', 'table column') AND NOT o.is_temporary
    ) AS dropped;
END $unstale$;

DROP EVENT TRIGGER IF EXISTS unstale_altered;
CREATE EVENT TRIGGER unstale_altered ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE')
    EXECUTE FUNCTION /*schema*/.unstale_altered();
DROP EVENT TRIGGER IF EXISTS unstale_dropped;
CREATE EVENT TRIGGER unstale_dropped ON sql_drop
    EXECUTE FUNCTION /*schema*/.unstale_dropped();
