-- +goose Up
-- When each background process was last seen at work, for readiness and alerts.
CREATE TABLE heartbeat (
    name   text        CONSTRAINT heartbeat_pk PRIMARY KEY CONSTRAINT heartbeat_name_length CHECK (length(name) BETWEEN 1 AND 100),
    at     timestamptz NOT NULL DEFAULT now(),
    detail text        NOT NULL DEFAULT '' CONSTRAINT heartbeat_detail_length CHECK (length(detail) <= 200)
);
GRANT SELECT, INSERT, UPDATE ON heartbeat TO provisioner;
GRANT SELECT ON heartbeat TO controlplane;
