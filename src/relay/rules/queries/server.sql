SELECT pg_catalog.current_setting('server_version_num'),
       pg_catalog.current_setting('wal_level'),
       pg_catalog.pg_is_in_recovery(),
       current_user,
       pg_catalog.current_database(),
       -- Amazon gives the right to read the log with a role.
       EXISTS (SELECT FROM pg_catalog.pg_roles r
               WHERE r.rolname = current_user AND (r.rolreplication OR r.rolsuper))
       OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                  WHERE r.rolname = 'rds_replication' AND pg_catalog.pg_has_role(r.oid, 'MEMBER')),
       pg_catalog.current_setting('max_replication_slots')::bigint
       - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       pg_catalog.current_setting('max_wal_senders')::bigint
       - (SELECT count(*) FROM pg_catalog.pg_stat_replication),
       -- In MB; an older server has no bound.
       coalesce((SELECT s.setting::bigint FROM pg_catalog.pg_settings s
                 WHERE s.name = 'max_slot_wal_keep_size'), -1)
