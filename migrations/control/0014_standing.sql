-- +goose Up
-- The table of people with accounts is small: writing it anew takes no time.
-- squawk-ignore-file adding-field-with-default
-- What the data plane last said of each person: the role in the organization, as of the
-- version of that decision there. 0 is nothing yet: then who signed up is the owner.
ALTER TABLE account
    ADD COLUMN role           text   NOT NULL DEFAULT '',
    ADD COLUMN member_version bigint NOT NULL DEFAULT 0;
-- Who may act for the organization: the one rule, which every query reads.
ALTER TABLE account ADD COLUMN owner boolean NOT NULL GENERATED ALWAYS AS (
    disabled_at IS NULL AND CASE WHEN member_version > 0 THEN role = 'owner' ELSE first_owner END) STORED;

-- +goose Down
ALTER TABLE account DROP COLUMN owner;
ALTER TABLE account DROP COLUMN member_version, DROP COLUMN role;
