-- Secrets and config maps.
CREATE TABLE bundles (
    kind TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    -- The names of the keys, one a line, sorted.
    keys TEXT COLLATE "C" NOT NULL,
    -- The values; encrypted where key_id is not empty.
    body BYTEA NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
);

-- Named directories. A row that is being removed stays until its directory is gone.
CREATE TABLE volumes (
    namespace TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL,
    size TEXT COLLATE "C" NOT NULL,
    -- One a line.
    access_modes TEXT COLLATE "C" NOT NULL,
    storage_class TEXT COLLATE "C" NOT NULL,
    -- The workload that made it; empty when a call did.
    created_by TEXT COLLATE "C" NOT NULL,
    deleting BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Mutations that were done, by the ids that callers gave them.
CREATE TABLE requests (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    method TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX requests_by_age ON requests (created_at);
