-- The unique indexes of the mapped tables, and of those that have their rows, that can be an identity.
WITH RECURSIVE mapped(oid) AS (
    SELECT c.oid
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) IN (/*mapped*/)
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN mapped m ON i.inhparent = m.oid
)
SELECT x.indrelid, c.relname,
       (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = x.indrelid
          AND a.attnum = ANY ((x.indkey::smallint[])[0:x.indnkeyatts - 1]))
FROM mapped m
JOIN pg_catalog.pg_index x ON x.indrelid = m.oid
JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
WHERE x.indisunique AND x.indimmediate AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
ORDER BY x.indrelid, c.relname
