-- Whether the end of a run was asked for again, which stops its exit tasks too.
ALTER TABLE runs ADD COLUMN cancel_exit_tasks BOOLEAN NOT NULL DEFAULT FALSE;
