-- +goose Up
-- Made before the first release: every database has these tables empty when it
-- runs, so there is nothing to rewrite, to scan or to break.
-- squawk-ignore-file changing-column-type, constraint-missing-not-valid
-- What was signed stays as it was signed. The database itself refuses to change a
-- document, a signature, a PDF or a bundle once it is there, to take a step that
-- the lifecycle does not have, and to hold an executed agreement that lacks any of
-- its proofs. This holds for every role, the tables' owner included.

-- Evidence is a signed note: its bytes count, so it is kept as bytes.
ALTER TABLE baa ALTER COLUMN customer_evidence TYPE bytea USING convert_to(customer_evidence::text, 'UTF8');
ALTER TABLE baa ALTER COLUMN operator_evidence TYPE bytea USING convert_to(operator_evidence::text, 'UTF8');
ALTER TABLE baa ADD COLUMN term_months int NOT NULL DEFAULT 36
    CONSTRAINT baa_term CHECK (term_months BETWEEN 1 AND 120);

ALTER TABLE baa
    ADD CONSTRAINT baa_state CHECK (state IN ('draft', 'signed', 'executed', 'terminated', 'expired', 'superseded')),
    ADD CONSTRAINT baa_document_hash CHECK (document_sha256 = sha256(document)),
    ADD CONSTRAINT baa_signed_has_evidence CHECK (
        state IN ('draft', 'superseded') OR (customer_evidence IS NOT NULL AND signed_at IS NOT NULL)),
    ADD CONSTRAINT baa_executed_has_proof CHECK (
        state NOT IN ('executed', 'expired') OR (operator_evidence IS NOT NULL AND pdf IS NOT NULL AND bundle IS NOT NULL
            AND executed_at IS NOT NULL AND expires_at > executed_at)),
    ADD CONSTRAINT baa_ended_has_time CHECK (
        (state IN ('terminated', 'expired', 'superseded')) = (ended_at IS NOT NULL)),
    ADD CONSTRAINT baa_ended_reason_length CHECK (length(ended_reason) <= 1000);

CREATE INDEX baa_due ON baa (expires_at) WHERE state = 'executed';

-- +goose StatementBegin
CREATE FUNCTION baa_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'an agreement is never removed' USING ERRCODE = 'CS003';
    END IF;
    IF (NEW.id, NEW.organization_id, NEW.template_version, NEW.document, NEW.document_sha256, NEW.term_months, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.organization_id, OLD.template_version, OLD.document, OLD.document_sha256, OLD.term_months, OLD.created_at)
    THEN
        RAISE EXCEPTION 'the document of an agreement never changes' USING ERRCODE = 'CS003';
    END IF;
    IF (OLD.customer_evidence IS NOT NULL AND NEW.customer_evidence IS DISTINCT FROM OLD.customer_evidence)
       OR (OLD.operator_evidence IS NOT NULL AND NEW.operator_evidence IS DISTINCT FROM OLD.operator_evidence)
       OR (OLD.pdf IS NOT NULL AND NEW.pdf IS DISTINCT FROM OLD.pdf)
       OR (OLD.bundle IS NOT NULL AND NEW.bundle IS DISTINCT FROM OLD.bundle)
       OR (OLD.signed_at IS NOT NULL AND NEW.signed_at IS DISTINCT FROM OLD.signed_at)
       OR (OLD.executed_at IS NOT NULL AND NEW.executed_at IS DISTINCT FROM OLD.executed_at)
       OR (OLD.expires_at IS NOT NULL AND NEW.expires_at IS DISTINCT FROM OLD.expires_at)
       OR (OLD.ended_at IS NOT NULL AND (NEW.ended_at, NEW.ended_reason) IS DISTINCT FROM (OLD.ended_at, OLD.ended_reason))
    THEN
        RAISE EXCEPTION 'the evidence of an agreement is written once' USING ERRCODE = 'CS003';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('draft', 'signed'), ('draft', 'superseded'),
        ('signed', 'executed'), ('signed', 'terminated'), ('signed', 'superseded'),
        ('executed', 'terminated'), ('executed', 'expired'), ('executed', 'superseded'))
    THEN
        RAISE EXCEPTION 'an agreement that is % cannot become %', OLD.state, NEW.state USING ERRCODE = 'CS003';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER baa_guard_row BEFORE UPDATE OR DELETE ON baa FOR EACH ROW EXECUTE FUNCTION baa_guard();
CREATE TRIGGER baa_guard_truncate BEFORE TRUNCATE ON baa FOR EACH STATEMENT EXECUTE FUNCTION baa_guard();
ALTER TABLE baa ENABLE ALWAYS TRIGGER baa_guard_row;
ALTER TABLE baa ENABLE ALWAYS TRIGGER baa_guard_truncate;

-- A new agreement is a draft: nobody inserts one that is signed already.
-- +goose StatementBegin
CREATE FUNCTION baa_begins_as_draft() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> 'draft' OR NEW.customer_evidence IS NOT NULL OR NEW.operator_evidence IS NOT NULL
       OR NEW.pdf IS NOT NULL OR NEW.bundle IS NOT NULL OR NEW.signed_at IS NOT NULL OR NEW.executed_at IS NOT NULL
    THEN
        RAISE EXCEPTION 'an agreement begins as a draft' USING ERRCODE = 'CS003';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER baa_begins_as_draft BEFORE INSERT ON baa FOR EACH ROW EXECUTE FUNCTION baa_begins_as_draft();
ALTER TABLE baa ENABLE ALWAYS TRIGGER baa_begins_as_draft;
