-- A row for every table and view, for its name may be meant by another. Filters and lists of columns
-- are asked for by name in JSON, since PostgreSQL 13 and 14 have none.
WITH RECURSIVE family(oid, ancestor) AS (
    SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
    UNION
    SELECT f.oid, i.inhparent
    FROM family f JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.ancestor
), published AS (
    SELECT t.schemaname, t.tablename, pg_catalog.to_jsonb(t) ->> 'rowfilter' AS filter
    FROM pg_catalog.pg_publication_tables t
    WHERE t.pubname = /*publication*/
), listed AS (
    SELECT r.prrelid, pg_catalog.to_jsonb(r) ->> 'prattrs' AS columns
    FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE p.pubname = /*publication*/
)
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
       coalesce((SELECT pg_catalog.string_agg(f.ancestor::text, ' ')
                 FROM family f WHERE f.oid = c.oid), ''),
       c.relreplident,
       p.tablename IS NOT NULL,
       p.filter IS NOT NULL,
       EXISTS (SELECT FROM listed l WHERE l.prrelid = c.oid AND l.columns IS NOT NULL)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN published p ON p.schemaname = n.nspname AND p.tablename = c.relname
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^pg_(toast|temp)'
