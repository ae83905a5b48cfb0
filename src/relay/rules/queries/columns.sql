-- The columns of the mapped tables and of those that have their rows.
WITH RECURSIVE mapped(oid) AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) IN (/*mapped*/)
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN mapped m ON i.inhparent = m.oid
), base(type, id, modifier) AS (
    SELECT t.oid, t.oid, -1 FROM pg_catalog.pg_type t WHERE t.typtype <> 'd'
    UNION ALL
    SELECT t.oid, b.id, CASE WHEN t.typtypmod = -1 THEN b.modifier ELSE t.typtypmod END
    FROM pg_catalog.pg_type t JOIN base b ON t.typbasetype = b.type
    WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       b.id, CASE WHEN a.atttypmod = -1 THEN b.modifier ELSE a.atttypmod END,
       t.typtype = 'e',
       (SELECT e.enumlabel FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = b.id ORDER BY e.enumsortorder LIMIT 1),
       coalesce((SELECT l.collisdeterministic FROM pg_catalog.pg_collation l
                 WHERE l.oid = a.attcollation), true),
       NOT a.attnotnull,
       a.attgenerated <> '',
       c.relreplident = 'f' OR EXISTS (
           SELECT FROM pg_catalog.pg_index x
           WHERE x.indrelid = c.oid
             AND a.attnum = ANY ((x.indkey::smallint[])[0:x.indnkeyatts - 1])
             AND ((c.relreplident = 'd' AND x.indisprimary)
                  OR (c.relreplident = 'i' AND x.indisreplident)))
FROM mapped m
JOIN pg_catalog.pg_class c ON c.oid = m.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base b ON b.type = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = b.id
ORDER BY a.attrelid, a.attnum
