-- The four tables of the world runtime, as its users know them.
CREATE TABLE IF NOT EXISTS world_runtime_entities (
  entity_id VARCHAR PRIMARY KEY, entity_type VARCHAR NOT NULL /* 'microvm','sandbox','verse' */, parent_id VARCHAR, snapshot_id VARCHAR,
  trit INT CHECK (trit IN (-1, 0, 1)), state VARCHAR DEFAULT 'running' /* 'running','snapshotted','collapsed' */, memory_mib INT, vcpu_count INT,
  boot_time_ms FLOAT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, resolved_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS world_branches (
  branch_id VARCHAR PRIMARY KEY, parent_entity_id VARCHAR REFERENCES world_runtime_entities(entity_id), child_entity_ids VARCHAR[],
  branch_type VARCHAR /* 'push_down','fork','snapshot' */, snapshot_time_ms FLOAT, gf3_sum INT, branched_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  -- Starts from one snapshot, one after the other, that are one branching whose labels do not balance yet.
  is_open BOOLEAN DEFAULT false, snapshot_id VARCHAR);
CREATE TABLE IF NOT EXISTS verse_resolutions (
  resolution_id VARCHAR PRIMARY KEY, verses VARCHAR[], winning_verse VARCHAR, oracle_source VARCHAR, wev_extracted FLOAT, pull_up_time_ms FLOAT,
  resolved_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS runtime_metrics (
  metric_id VARCHAR PRIMARY KEY, entity_id VARCHAR REFERENCES world_runtime_entities(entity_id), boot_time_ms FLOAT, snapshot_time_ms FLOAT,
  branch_time_ms FLOAT, memory_overhead_mb FLOAT, measured_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);

-- What the registry needs to go on after a restart: worlds and snapshots, as JSON.
CREATE TABLE IF NOT EXISTS world_records (id VARCHAR PRIMARY KEY, sort VARCHAR NOT NULL /* 'instance','snapshot' */, record VARCHAR NOT NULL);
-- Each operation on a world: to_hash = SHA-256 of from_hash, operation and detail, each ended by a zero byte.
CREATE TABLE IF NOT EXISTS world_receipts (
  receipt_id VARCHAR PRIMARY KEY, entity_id VARCHAR NOT NULL, step BIGINT NOT NULL, operation VARCHAR NOT NULL, detail VARCHAR NOT NULL,
  from_hash VARCHAR NOT NULL, to_hash VARCHAR NOT NULL, happened_at TIMESTAMP NOT NULL);
-- What was run in a world, and what came of it.
CREATE TABLE IF NOT EXISTS world_traces (
  entity_id VARCHAR NOT NULL, step BIGINT NOT NULL, action VARCHAR NOT NULL /* 'cell','exec','write','read','ssh','sftp' */, input VARCHAR NOT NULL,
  code BIGINT, output_digest VARCHAR NOT NULL, took_ms DOUBLE, happened_at TIMESTAMP NOT NULL);
-- Requests with a key of the caller's: the same key and body give the same answer again.
CREATE TABLE IF NOT EXISTS world_requests (key VARCHAR PRIMARY KEY, body_digest VARCHAR NOT NULL, answer VARCHAR NOT NULL, happened_at TIMESTAMP NOT NULL);
-- Which line of the journal these tables have.
CREATE TABLE IF NOT EXISTS world_progress (applied BIGINT NOT NULL);

CREATE OR REPLACE VIEW world_snapshots AS SELECT
  id AS snapshot_id, record->>'world' AS entity_id, record->>'image' AS image, record->>'backend' AS backend, record->>'digest' AS digest, record->'metadata' AS metadata,
  CAST(record->>'bytes' AS BIGINT) AS bytes, CAST(record->>'pause_ms' AS DOUBLE) AS pause_ms, to_timestamp(CAST(record->>'created' AS BIGINT)) AS created_at
  FROM world_records WHERE sort = 'snapshot';
CREATE OR REPLACE VIEW world_instances AS SELECT
  id AS entity_id, record->>'status' AS status, record->>'image' AS image, record->>'backend' AS backend, record->>'snapshot' AS snapshot_id, record->>'parent' AS parent_id,
  record->'metadata' AS metadata, CAST(record->>'created' AS BIGINT) AS created
  FROM world_records WHERE sort = 'instance';
