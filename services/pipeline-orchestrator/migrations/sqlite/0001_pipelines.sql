-- Times are microseconds since 1970 in UTC; 0 stands for "not yet", so that lists can be ordered by every time.
-- Documents (body, spec, tags, parameters, metadata) are JSON text and are never searched by their content.

CREATE TABLE experiments (
    id TEXT NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_run_created_at BIGINT NOT NULL,
    storage_state TEXT NOT NULL CHECK (storage_state IN ('AVAILABLE', 'ARCHIVED'))
);
CREATE UNIQUE INDEX experiments_name ON experiments (namespace, name);
CREATE INDEX experiments_created_at ON experiments (created_at, id);
CREATE INDEX experiments_last_run ON experiments (last_run_created_at, id);
CREATE INDEX experiments_order_name ON experiments (name, id);
CREATE INDEX experiments_storage_state ON experiments (storage_state, created_at, id);

-- Specifications by the SHA-256 of their text. A run keeps the one that it executes when its version is deleted.
CREATE TABLE specs (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE pipelines (
    id TEXT NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    tags TEXT NOT NULL
);
CREATE UNIQUE INDEX pipelines_name ON pipelines (namespace, name);
CREATE INDEX pipelines_created_at ON pipelines (created_at, id);
CREATE INDEX pipelines_order_name ON pipelines (name, id);
CREATE INDEX pipelines_display_name ON pipelines (display_name, id);

CREATE TABLE pipeline_tags (
    pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (pipeline_id, tag)
);
CREATE INDEX pipeline_tags_content ON pipeline_tags (tag, content, pipeline_id);

CREATE TABLE pipeline_versions (
    id TEXT NOT NULL PRIMARY KEY,
    pipeline_id TEXT NOT NULL REFERENCES pipelines (id),
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    spec_hash TEXT NOT NULL REFERENCES specs (hash),
    package_url TEXT NOT NULL,
    code_source_url TEXT NOT NULL,
    tags TEXT NOT NULL
);
CREATE UNIQUE INDEX pipeline_versions_name ON pipeline_versions (pipeline_id, name);
CREATE INDEX pipeline_versions_created_at ON pipeline_versions (pipeline_id, created_at, id);
CREATE INDEX pipeline_versions_display_name ON pipeline_versions (pipeline_id, display_name, id);
CREATE INDEX pipeline_versions_spec ON pipeline_versions (spec_hash);

-- `status` is the engine's state. `state` is what clients see and filter by: a run that is asked to stop is CANCELING
-- at once, and a stopped run is FAILED, since clients of the adopted contract wait for that. An experiment, a
-- pipeline or a version may be gone while its runs stay, so there are no references to them.
CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    storage_state TEXT NOT NULL CHECK (storage_state IN ('AVAILABLE', 'ARCHIVED')),
    status TEXT NOT NULL,
    state TEXT NOT NULL,
    state_history TEXT NOT NULL,
    pipeline_id TEXT NOT NULL,
    pipeline_version_id TEXT NOT NULL,
    inline BOOLEAN NOT NULL,
    spec_hash TEXT NOT NULL REFERENCES specs (hash),
    pipeline_name TEXT NOT NULL,
    pipeline_root TEXT NOT NULL,
    requested_root TEXT NOT NULL,
    service_account TEXT NOT NULL,
    recurring_run_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    scheduled_at BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    cancel_requested_at BIGINT NOT NULL,
    cancel_reason TEXT NOT NULL,
    deleting BOOLEAN NOT NULL,
    keep_artifacts BOOLEAN NOT NULL
);
-- With `deleting` at the end, counts are read from the index alone.
CREATE INDEX runs_created_at ON runs (created_at, id, deleting);
CREATE INDEX runs_display_name ON runs (display_name, id, deleting);
CREATE INDEX runs_finished_at ON runs (finished_at, id, deleting);
CREATE INDEX runs_scheduled_at ON runs (scheduled_at, id, deleting);
CREATE INDEX runs_state ON runs (state, created_at, id, deleting);
CREATE INDEX runs_storage_state ON runs (storage_state, created_at, id, deleting);
CREATE INDEX runs_experiment ON runs (experiment_id, created_at, id, deleting);
CREATE INDEX runs_version ON runs (pipeline_version_id);
CREATE INDEX runs_spec ON runs (spec_hash);
CREATE INDEX runs_open ON runs (id) WHERE deleting OR status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED');

CREATE TABLE tasks (
    id INTEGER NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    parent_id BIGINT,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    iteration BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX tasks_run ON tasks (run_id, id);
CREATE UNIQUE INDEX tasks_path ON tasks (run_id, path);
CREATE INDEX tasks_name ON tasks (run_id, name);
CREATE INDEX tasks_version ON tasks (run_id, version, id);

-- An artifact outlives the run that recorded it for as long as another run uses it.
CREATE TABLE artifacts (
    id INTEGER NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    task_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    instance_schema TEXT NOT NULL,
    uri TEXT NOT NULL,
    metadata TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    present BOOLEAN NOT NULL,
    directory BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    -- Whether it stays although nobody uses it, since somebody asked for that.
    kept BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX artifacts_run ON artifacts (run_id, id);
CREATE INDEX artifacts_type ON artifacts (type, id);
CREATE INDEX artifacts_uri ON artifacts (uri);

-- Which runs need an artifact, the one that recorded it included.
CREATE TABLE artifact_uses (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    artifact_id BIGINT NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    PRIMARY KEY (run_id, artifact_id)
);
CREATE INDEX artifact_uses_artifact ON artifact_uses (artifact_id);

-- The next free number of each kind of numbered id; a process takes them in blocks.
CREATE TABLE sequences (
    name TEXT NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
);
INSERT INTO sequences (name, next) VALUES ('ids', 1), ('epoch', 0);

-- What a mutation answered, for a caller that repeats it.
CREATE TABLE idempotency (
    caller TEXT NOT NULL,
    method TEXT NOT NULL,
    request_id TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    response BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, method, request_id)
);
CREATE INDEX idempotency_created_at ON idempotency (created_at);
