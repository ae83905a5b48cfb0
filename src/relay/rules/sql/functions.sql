-- What a transaction calls to invalidate what no row says: it commits and rolls back with the data, and
-- needs neither Redis nor a right to a table. Parts and tags are canonical text: n::text of an integer, a
-- uuid or a boolean, host(a) of an address.
--
--     SELECT unstale_invalidate('accounts', '42');             -- the key 42
--     SELECT unstale_invalidate('members', '7', 'ada');        -- the key (7, "ada"), one key of two parts
--     SELECT unstale_invalidate_tag('accounts', 'tenant:7');   -- what has the tag
--     SELECT unstale_invalidate_all('accounts');               -- the whole cache
--
-- The format is `Key::FORMAT` of the cache's key type, where the relay cannot know it: of an Option, say.
-- Every role that may connect can write such messages, here or with pg_logical_emit_message itself: the
-- worst that one does is that values are loaded again.

CREATE OR REPLACE FUNCTION /*schema*/.unstale_emit(kind text, cache text, what jsonb, format bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
DECLARE
    content jsonb := jsonb_build_array(kind, cache);
BEGIN
    IF cache IS NULL OR length(cache) > 64 OR cache !~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*$' THEN
        RAISE EXCEPTION 'no cache can have this name'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It is 1 to 64 of a-z, 0-9 and _, from a letter on, without __ and without _ at its end.';
    END IF;
    IF format < 0 OR format > 4294967295 THEN
        RAISE EXCEPTION 'a format is a number from 0 to 4294967295'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF what IS NOT NULL THEN
        content := content || jsonb_build_array(what);
    END IF;
    IF format IS NOT NULL THEN
        content := content || to_jsonb(format);
    END IF;
    PERFORM pg_logical_emit_message(true, 'unstale', convert_to(content::text, 'UTF8'));
END $unstale$;

CREATE OR REPLACE FUNCTION /*schema*/.unstale_invalidate_as(
    cache text, format bigint, VARIADIC parts text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    IF parts IS NULL OR cardinality(parts) NOT BETWEEN 1 AND 64
            OR array_position(parts, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a key has 1 to 64 parts, none of them null'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Of an Option, None is the part 0, and Some is the part 1 and the value.';
    END IF;
    IF (SELECT sum(octet_length(part)) FROM unnest(parts) AS part) > 65536 THEN
        RAISE EXCEPTION 'a key has at most 65536 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM /*schema*/.unstale_emit('k', cache, to_jsonb(parts), format);
END $unstale$;

CREATE OR REPLACE FUNCTION /*schema*/.unstale_invalidate(cache text, VARIADIC parts text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    PERFORM /*schema*/.unstale_invalidate_as(cache, NULL, VARIADIC parts);
END $unstale$;

CREATE OR REPLACE FUNCTION /*schema*/.unstale_invalidate_tag(
    cache text, tag text, format bigint DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    IF tag IS NULL OR octet_length(tag) > 65536 THEN
        RAISE EXCEPTION 'a tag is a text of at most 65536 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM /*schema*/.unstale_emit('t', cache, to_jsonb(tag), format);
END $unstale$;

CREATE OR REPLACE FUNCTION /*schema*/.unstale_invalidate_all(cache text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $unstale$
BEGIN
    PERFORM /*schema*/.unstale_emit('a', cache, NULL, NULL);
END $unstale$;
