-- What the cache knows of a key. The row of a task is written when the task is launched (`running`), and becomes an
-- entry when it succeeds; any other end removes it. `id` is the task's. A run may be gone while its entry stays.
CREATE TABLE cache_entries (
    id INTEGER NOT NULL PRIMARY KEY,
    namespace TEXT NOT NULL,
    pipeline_name TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    running BOOLEAN NOT NULL,
    run_id TEXT NOT NULL,
    task_path TEXT NOT NULL,
    outputs TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    hits BIGINT NOT NULL DEFAULT 0,
    last_hit_at BIGINT NOT NULL DEFAULT 0,
    -- Whether it stays although no run needs it, since somebody asked for that.
    kept BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX cache_entries_key ON cache_entries (namespace, pipeline_name, key);
CREATE INDEX cache_entries_pipeline ON cache_entries (pipeline_name, id);
CREATE INDEX cache_entries_run ON cache_entries (run_id);
CREATE INDEX cache_entries_expires_at ON cache_entries (expires_at) WHERE expires_at > 0;
-- Of the tasks with one key at most one runs.
CREATE UNIQUE INDEX cache_entries_leader ON cache_entries (namespace, pipeline_name, key) WHERE running;

-- Which tasks took their outputs from an entry.
CREATE TABLE cache_uses (
    entry_id BIGINT NOT NULL REFERENCES cache_entries (id) ON DELETE CASCADE,
    task_id BIGINT NOT NULL,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    PRIMARY KEY (entry_id, task_id)
);
CREATE INDEX cache_uses_run ON cache_uses (run_id, entry_id);
