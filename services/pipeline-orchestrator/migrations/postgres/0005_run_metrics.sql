-- Metrics that clients of the older contract report; of a node and a name, the first counts.
CREATE TABLE run_metrics (
    run_id TEXT COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    node_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    number_value DOUBLE PRECISION NOT NULL,
    format TEXT COLLATE "C" NOT NULL,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, node_id, name)
);
