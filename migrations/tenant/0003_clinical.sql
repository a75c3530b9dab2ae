-- +goose Up
-- +goose StatementBegin
-- Clients and shift notes of one tenant. Runs as 0001_core does. What a person
-- said or is called is sealed by the worker (columns *_sealed); what is searched
-- for exactly has a keyed blind index beside it (columns *_index).
-- Nobody may delete a row. Who made a row and when comes from the verified
-- context and the clock, never from an INSERT: those columns are not granted.

CREATE TABLE client (
    id                   uuid        CONSTRAINT client_pk PRIMARY KEY,
    facility_id          uuid        NOT NULL CONSTRAINT client_facility REFERENCES facility,
    status               text        NOT NULL DEFAULT 'active' CONSTRAINT client_status CHECK (status IN ('active', 'discharged')),
    given_name_sealed    bytea       NOT NULL,
    family_name_sealed   bytea       NOT NULL,
    birth_date_sealed    bytea       NOT NULL,
    sex_sealed           bytea,
    gender_sealed        bytea,
    record_number_sealed bytea,
    phone_sealed         bytea,
    address_sealed       bytea,
    family_index         bytea       NOT NULL CONSTRAINT client_family_index_size CHECK (length(family_index) BETWEEN 16 AND 64),
    birth_date_index     bytea       NOT NULL CONSTRAINT client_birth_date_index_size CHECK (length(birth_date_index) BETWEEN 16 AND 64),
    record_number_index  bytea       CONSTRAINT client_record_number_index_size CHECK (length(record_number_index) BETWEEN 16 AND 64),
    version              bigint      NOT NULL DEFAULT 1,
    created_by           uuid        NOT NULL DEFAULT cell.ctx_actor(),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_by           uuid        NOT NULL DEFAULT cell.ctx_actor(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT client_with_facility UNIQUE (id, facility_id),
    CONSTRAINT client_record_number_both CHECK ((record_number_sealed IS NULL) = (record_number_index IS NULL))
);
CREATE INDEX client_by_facility ON client (facility_id, id);
CREATE INDEX client_by_family ON client (family_index);
CREATE INDEX client_by_birth_date ON client (birth_date_index);
-- By facility: a number taken elsewhere must not show itself as a conflict here.
CREATE UNIQUE INDEX client_record_number ON client (facility_id, record_number_index);

-- Where a client was placed, and why: one row on admission and one a transfer.
CREATE TABLE client_placement (
    id               uuid        CONSTRAINT client_placement_pk PRIMARY KEY,
    client_id        uuid        NOT NULL CONSTRAINT client_placement_client REFERENCES client,
    facility_id      uuid        NOT NULL CONSTRAINT client_placement_facility REFERENCES facility,
    from_facility_id uuid        CONSTRAINT client_placement_from REFERENCES facility,
    reason_sealed    bytea,
    placed_by        uuid        NOT NULL DEFAULT cell.ctx_actor(),
    placed_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX client_placement_by_client ON client_placement (client_id, id);

-- Contacts, allergies and the care team follow their client to a new facility.
CREATE TABLE client_contact (
    id           uuid        CONSTRAINT client_contact_pk PRIMARY KEY,
    client_id    uuid        NOT NULL,
    facility_id  uuid        NOT NULL,
    relationship text        NOT NULL CONSTRAINT client_contact_relationship CHECK (relationship IN ('spouse', 'partner', 'parent', 'child', 'sibling', 'guardian', 'proxy', 'friend', 'physician', 'other')),
    emergency    boolean     NOT NULL DEFAULT false,
    name_sealed  bytea       NOT NULL,
    phone_sealed bytea,
    email_sealed bytea,
    created_by   uuid        NOT NULL DEFAULT cell.ctx_actor(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT client_contact_client FOREIGN KEY (client_id, facility_id) REFERENCES client (id, facility_id) ON UPDATE CASCADE
);
CREATE INDEX client_contact_by_client ON client_contact (client_id, id);

CREATE TABLE client_allergy (
    id               uuid        CONSTRAINT client_allergy_pk PRIMARY KEY,
    client_id        uuid        NOT NULL,
    facility_id      uuid        NOT NULL,
    severity         text        NOT NULL CONSTRAINT client_allergy_severity CHECK (severity IN ('mild', 'moderate', 'severe', 'unknown')),
    substance_sealed bytea       NOT NULL,
    reaction_sealed  bytea,
    created_by       uuid        NOT NULL DEFAULT cell.ctx_actor(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT client_allergy_client FOREIGN KEY (client_id, facility_id) REFERENCES client (id, facility_id) ON UPDATE CASCADE
);
CREATE INDEX client_allergy_by_client ON client_allergy (client_id, id);

CREATE TABLE care_team_member (
    id          uuid        CONSTRAINT care_team_member_pk PRIMARY KEY,
    client_id   uuid        NOT NULL,
    facility_id uuid        NOT NULL,
    identity_id uuid        NOT NULL CONSTRAINT care_team_member_member REFERENCES member,
    duty        text        NOT NULL CONSTRAINT care_team_member_duty CHECK (duty IN ('primary', 'prescriber', 'nurse', 'aide', 'covering')),
    added_by    uuid        NOT NULL DEFAULT cell.ctx_actor(),
    added_at    timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    CONSTRAINT care_team_member_client FOREIGN KEY (client_id, facility_id) REFERENCES client (id, facility_id) ON UPDATE CASCADE
);
CREATE UNIQUE INDEX care_team_member_current ON care_team_member (client_id, identity_id) WHERE ended_at IS NULL;

-- A note stays with the facility it was written at. It is never changed: what is
-- wrong is amended by another note that names it.
CREATE TABLE shift_note (
    id          uuid        CONSTRAINT shift_note_pk PRIMARY KEY,
    client_id   uuid        NOT NULL CONSTRAINT shift_note_client REFERENCES client,
    facility_id uuid        NOT NULL CONSTRAINT shift_note_facility REFERENCES facility,
    shift       text        NOT NULL CONSTRAINT shift_note_shift CHECK (shift IN ('day', 'evening', 'night')),
    body_sealed bytea       NOT NULL,
    amends      uuid,
    author      uuid        NOT NULL DEFAULT cell.ctx_actor(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT shift_note_of_client UNIQUE (id, client_id),
    CONSTRAINT shift_note_amends FOREIGN KEY (amends, client_id) REFERENCES shift_note (id, client_id)
);
CREATE INDEX shift_note_by_client ON shift_note (client_id, id);
CREATE INDEX shift_note_by_facility ON shift_note (facility_id, id);

-- Every change of a client raises its version by one and says who and when.
CREATE FUNCTION client_touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.created_by <> OLD.created_by OR NEW.created_at <> OLD.created_at THEN
        RAISE EXCEPTION 'a client''s id and origin do not change' USING ERRCODE = 'CS002';
    END IF;
    NEW.version    := OLD.version + 1;
    NEW.updated_by := cell.ctx_actor();
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER client_touch BEFORE UPDATE ON client FOR EACH ROW EXECUTE FUNCTION client_touch();

CREATE TRIGGER client_placement_append BEFORE UPDATE OR DELETE ON client_placement FOR EACH ROW EXECUTE FUNCTION cell.refuse_change();
CREATE TRIGGER client_placement_whole BEFORE TRUNCATE ON client_placement FOR EACH STATEMENT EXECUTE FUNCTION cell.refuse_change();
CREATE TRIGGER shift_note_append BEFORE UPDATE OR DELETE ON shift_note FOR EACH ROW EXECUTE FUNCTION cell.refuse_change();
CREATE TRIGGER shift_note_whole BEFORE TRUNCATE ON shift_note FOR EACH STATEMENT EXECUTE FUNCTION cell.refuse_change();

-- Row-level security: a policy per command, DELETE for nobody. The sub-select
-- makes the context's facilities an init plan: verified once a statement.
ALTER TABLE client           ENABLE ROW LEVEL SECURITY;
ALTER TABLE client           FORCE ROW LEVEL SECURITY;
ALTER TABLE client_placement ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_placement FORCE ROW LEVEL SECURITY;
ALTER TABLE client_contact   ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_contact   FORCE ROW LEVEL SECURITY;
ALTER TABLE client_allergy   ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_allergy   FORCE ROW LEVEL SECURITY;
ALTER TABLE care_team_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE care_team_member FORCE ROW LEVEL SECURITY;
ALTER TABLE shift_note       ENABLE ROW LEVEL SECURITY;
ALTER TABLE shift_note       FORCE ROW LEVEL SECURITY;

CREATE POLICY client_select ON client FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY client_insert ON client FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY client_update ON client FOR UPDATE
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]))
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));

CREATE POLICY client_placement_select ON client_placement FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY client_placement_insert ON client_placement FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[])
        AND EXISTS (SELECT 1 FROM client c WHERE c.id = client_placement.client_id AND c.facility_id = client_placement.facility_id));

CREATE POLICY client_contact_select ON client_contact FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY client_contact_insert ON client_contact FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));

CREATE POLICY client_allergy_select ON client_allergy FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY client_allergy_insert ON client_allergy FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));

CREATE POLICY care_team_member_select ON care_team_member FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY care_team_member_insert ON care_team_member FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY care_team_member_update ON care_team_member FOR UPDATE
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]))
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));

CREATE POLICY shift_note_select ON shift_note FOR SELECT
    USING (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[]));
CREATE POLICY shift_note_insert ON shift_note FOR INSERT
    WITH CHECK (facility_id = ANY ((SELECT cell.ctx_facilities())::uuid[])
        AND EXISTS (SELECT 1 FROM client c WHERE c.id = shift_note.client_id AND c.facility_id = shift_note.facility_id));

-- Column grants, table by table, to this tenant's login role alone.
DO $$
DECLARE
    tenant text := current_setting('caresphere.tenant_role');
BEGIN
    EXECUTE format('GRANT SELECT ON client, client_placement, client_contact, client_allergy, care_team_member, shift_note TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, facility_id, given_name_sealed, family_name_sealed, birth_date_sealed, sex_sealed, gender_sealed, record_number_sealed, phone_sealed, address_sealed, family_index, birth_date_index, record_number_index) ON client TO %I', tenant);
    EXECUTE format('GRANT UPDATE (facility_id, status, given_name_sealed, family_name_sealed, birth_date_sealed, sex_sealed, gender_sealed, record_number_sealed, phone_sealed, address_sealed, family_index, birth_date_index, record_number_index) ON client TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, client_id, facility_id, from_facility_id, reason_sealed) ON client_placement TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, client_id, facility_id, relationship, emergency, name_sealed, phone_sealed, email_sealed) ON client_contact TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, client_id, facility_id, severity, substance_sealed, reaction_sealed) ON client_allergy TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, client_id, facility_id, identity_id, duty) ON care_team_member TO %I', tenant);
    EXECUTE format('GRANT UPDATE (ended_at) ON care_team_member TO %I', tenant);
    EXECUTE format('GRANT INSERT (id, client_id, facility_id, shift, body_sealed, amends) ON shift_note TO %I', tenant);
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE shift_note, care_team_member, client_allergy, client_contact, client_placement, client;
DROP FUNCTION client_touch();
