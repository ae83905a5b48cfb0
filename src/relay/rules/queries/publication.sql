SELECT p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot
FROM pg_catalog.pg_publication p
WHERE p.pubname = /*publication*/
