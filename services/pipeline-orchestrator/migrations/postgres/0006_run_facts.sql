-- What runs are found by besides their own columns: tags (t), parameters (p) and metrics (m). The time of the run stands
-- here too, so that a page of the newest runs with a tag is read from one index.
CREATE TABLE run_facts (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('t', 'p', 'm')),
    name TEXT COLLATE "C" NOT NULL,
    -- The first 512 characters.
    content TEXT COLLATE "C" NOT NULL,
    -- Of content that is a number.
    number DOUBLE PRECISION,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, kind, name)
);
CREATE INDEX run_facts_content ON run_facts (kind, name, content, created_at, run_id);
CREATE INDEX run_facts_number ON run_facts (kind, name, created_at, run_id, number);

CREATE INDEX runs_status ON runs (status, created_at, id, deleting);
CREATE INDEX runs_pipeline_name ON runs (pipeline_name, created_at, id, deleting);
CREATE INDEX runs_pipeline ON runs (pipeline_id, created_at, id, deleting);
