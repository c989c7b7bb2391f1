-- A schedule makes the run of a slot and moves its cursor in one transaction. `next_at` is the slot after the cursor, 0
-- when no more come; `blocked_until` is when it is looked at again after a problem.
CREATE TABLE schedules (
    id TEXT NOT NULL PRIMARY KEY,
    experiment_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    -- A version without an id stands for the newest at the time of a slot; then there is no specification here.
    pipeline_id TEXT NOT NULL,
    pipeline_version_id TEXT NOT NULL,
    inline BOOLEAN NOT NULL,
    spec_hash TEXT REFERENCES specs (hash),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- The last slot that was dealt with.
    cursor_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX schedules_created_at ON schedules (created_at, id);
CREATE INDEX schedules_updated_at ON schedules (updated_at, id);
CREATE INDEX schedules_display_name ON schedules (display_name, id);
CREATE INDEX schedules_experiment ON schedules (experiment_id, created_at, id);
CREATE INDEX schedules_spec ON schedules (spec_hash);
CREATE INDEX schedules_due ON schedules (next_at, id) WHERE enabled AND next_at > 0;

CREATE TABLE backfills (
    id TEXT NOT NULL PRIMARY KEY,
    schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('ACTIVE', 'COMPLETE', 'STOPPED')),
    created_at BIGINT NOT NULL,
    -- The next of its runs, from 0.
    next_run BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX backfills_schedule ON backfills (schedule_id, created_at, id);
CREATE INDEX backfills_active ON backfills (id) WHERE state = 'ACTIVE';

CREATE TABLE backfill_runs (
    backfill_id TEXT NOT NULL REFERENCES backfills (id) ON DELETE CASCADE,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    PRIMARY KEY (backfill_id, run_id)
);
CREATE INDEX backfill_runs_run ON backfill_runs (run_id);

CREATE INDEX runs_of_schedule ON runs (recurring_run_id, created_at, id, deleting);
CREATE INDEX runs_active_of_schedule ON runs (recurring_run_id)
    WHERE recurring_run_id <> '' AND status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED');
