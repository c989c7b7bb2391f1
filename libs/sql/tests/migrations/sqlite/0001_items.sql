CREATE TABLE items (
    id TEXT NOT NULL PRIMARY KEY,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    parent TEXT REFERENCES items (id)
);
