CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL
);

CREATE TABLE workloads (
    id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    notes TEXT NOT NULL,
    -- What was asked, without program and inputs.
    spec BLOB NOT NULL,
    -- What was asked, whole; dropped when the workload ended.
    request BLOB,
    result BLOB,
    boot_id TEXT NOT NULL,
    deleting BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    admitted_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    log_bytes BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX workloads_by_owner ON workloads (owner, id);
CREATE INDEX workloads_by_age ON workloads (created_at, id);
CREATE INDEX workloads_live ON workloads (node_id, id) WHERE ended_at IS NULL;

-- Ids that must not start: stopped or deleted, perhaps before they were launched.
CREATE TABLE tombstones (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    deleted BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX tombstones_by_owner ON tombstones (owner, id);

CREATE TABLE environments (
    key TEXT NOT NULL,
    node_id TEXT NOT NULL,
    builds BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (key, node_id)
);
