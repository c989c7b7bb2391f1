-- The accelerators that a workload has, or had: type and id, one a line.
ALTER TABLE workloads ADD COLUMN accelerators TEXT NOT NULL DEFAULT '';
