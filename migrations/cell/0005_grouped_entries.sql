-- +goose Up
-- Audit entries of many reads in one commit, and the context that makes it possible.
--
-- A read's context (v2) names the audit entry that will tell of it, in a part of its own
-- before the signature:
--   v2|role|backend pid|expiry ms|member|actor|member role|session|facilities|entry|hmac hex
-- The access mark then names that entry in place of the transaction, which needs no
-- number any more: `caresphere audit reconcile` demands an entry of that id, written
-- at that time, and takes it for one transaction only.
--
-- Each byte of a context is looked at a few times less than before: taking a text apart
-- from its end counts its characters, bytes have a length.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.context(OUT kind text, OUT actor uuid, OUT member_role text,
                                        OUT session uuid, OUT facilities uuid[])
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    raw      text := current_setting('caresphere.context', true);
    bytes    bytea;
    size     int;
    part     text[];
    inner_k  bytea;
    outer_k  bytea;
BEGIN
    IF raw IS NULL OR raw = '' THEN
        RETURN;
    END IF;
    bytes := convert_to(raw, 'UTF8');
    -- Without 66 bytes there is no bar before a signature.
    size := octet_length(bytes) - 65;
    SELECT ck.inner_block, ck.outer_block INTO inner_k, outer_k
    FROM cell.context_key ck WHERE ck.role_name = session_user;
    IF NOT FOUND OR size < 1
       OR convert_to(encode(sha256(outer_k || sha256(inner_k || substr(bytes, 1, size))), 'hex'), 'UTF8') <> substr(bytes, size + 2) THEN
        RAISE EXCEPTION 'request context is not valid here' USING ERRCODE = 'CS001';
    END IF;
    -- From here on the words are the worker's own, but for the bar before the
    -- signature: without it there is a part less.
    part := string_to_array(raw, '|');
    IF array_length(part, 1) IS DISTINCT FROM (CASE part[1] WHEN 'v1' THEN 10 WHEN 'v2' THEN 11 END)
       OR part[2] <> session_user
       OR part[3]::int <> pg_backend_pid()
       OR part[4]::bigint < extract(epoch FROM clock_timestamp()) * 1000
       OR part[5] NOT IN ('member', 'lookup', 'system') THEN
        RAISE EXCEPTION 'request context is not valid here' USING ERRCODE = 'CS001';
    END IF;
    kind    := part[5];
    actor   := nullif(part[6], '')::uuid;
    session := nullif(part[8], '')::uuid;
    -- Only a member has a role and facilities: a lookup or the worker itself has none.
    IF kind = 'member' THEN
        member_role := nullif(part[7], '');
        facilities  := string_to_array(nullif(part[9], ''), ',')::uuid[];
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL UNSAFE
AS $$
DECLARE
    c   record := cell.context();
    raw text;
BEGIN
    IF c.facilities IS NOT NULL THEN
        -- Just verified, so its parts are the worker's words.
        raw := current_setting('caresphere.context', true);
        IF raw LIKE 'v2|%' THEN
            RAISE LOG 'caresphere access mark: entry %', split_part(raw, '|', 10);
        ELSE
            RAISE LOG 'caresphere access mark: transaction %', pg_current_xact_id();
        END IF;
    END IF;
    RETURN c.facilities;
END
$$;
-- +goose StatementEnd

-- Writes the audit entries of requests whose transactions have ended, each with the
-- actor that the worker names for it, in the trail of the role that has logged in.
-- The login may not write who acted: this function does, for a list that the worker
-- has signed for this backend and the next seconds:
--   b1|role|backend pid|expiry ms|sha256 hex of the list|hmac hex
-- The list is a JSON array of objects as below. It cannot be changed, taken to
-- another backend or role, or written twice: the entries' ids are unique. The words
-- in front keep such a signature from being taken for a context's, and the other way
-- round. Returns how many entries it wrote; nulls write none.
-- +goose StatementBegin
CREATE FUNCTION cell.write_entries(signed text, list text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part    text[] := string_to_array(signed, '|');
    inner_k bytea;
    outer_k bytea;
    written bigint;
BEGIN
    SELECT ck.inner_block, ck.outer_block INTO inner_k, outer_k
    FROM cell.context_key ck WHERE ck.role_name = session_user;
    IF NOT FOUND OR array_length(part, 1) IS DISTINCT FROM 6
       OR encode(sha256(outer_k || sha256(inner_k || convert_to(array_to_string(part[1:5], '|'), 'UTF8'))), 'hex') <> part[6]
       OR part[1] <> 'b1'
       OR part[2] <> session_user
       OR part[3]::int <> pg_backend_pid()
       OR part[4]::bigint < extract(epoch FROM clock_timestamp()) * 1000
       OR part[5] <> encode(sha256(convert_to(list, 'UTF8')), 'hex') THEN
        RAISE EXCEPTION 'a list of entries is not valid here' USING ERRCODE = 'CS001';
    END IF;
    -- A tenant's schema is called as its role.
    EXECUTE format('INSERT INTO %I.audit_entry (id, actor_kind, actor_id, role, session_id, facility_id, action, record_type, record_id,
                        outcome, ip, device, request_id, detail)
                    SELECT e.id, ''member'', e.actor, e.role, e.session, e.facility, e.action, e.record_type, e.record, e.outcome,
                        e.ip, e.device, e.request, e.detail
                    FROM json_to_recordset($1) AS e (id uuid, actor uuid, role text, session uuid, facility uuid, action text, record_type text,
                        record text, outcome text, ip text, device text, request text, detail jsonb)', session_user)
        USING list::json;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$$;
-- +goose StatementEnd
GRANT EXECUTE ON FUNCTION cell.write_entries(text, text) TO PUBLIC;

-- +goose Down
DROP FUNCTION cell.write_entries(text, text);
