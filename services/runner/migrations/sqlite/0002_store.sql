-- Secrets and config maps.
CREATE TABLE bundles (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The names of the keys, one a line, sorted.
    keys TEXT NOT NULL,
    -- The values; encrypted where key_id is not empty.
    body BLOB NOT NULL,
    key_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
);

-- Named directories. A row that is being removed stays until its directory is gone.
CREATE TABLE volumes (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    node_id TEXT NOT NULL,
    size TEXT NOT NULL,
    -- One a line.
    access_modes TEXT NOT NULL,
    storage_class TEXT NOT NULL,
    -- The workload that made it; empty when a call did.
    created_by TEXT NOT NULL,
    deleting BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Mutations that were done, by the ids that callers gave them.
CREATE TABLE requests (
    id TEXT NOT NULL PRIMARY KEY,
    method TEXT NOT NULL,
    target TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX requests_by_age ON requests (created_at);
