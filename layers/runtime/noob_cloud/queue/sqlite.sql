-- The tables of the task queue, and every query on them.
--
-- A task's id is a number; where a task stands is an interval [id, id + n) in exactly one of
-- ready, delayed, lease, settled and dead. Together these intervals tile the ids of `task`, so no
-- task is lost and none has two leases. What was submitted together and is scheduled alike is one
-- row of `task` and one row of `ready`; a batch that is claimed together is one row of `lease`.
--
-- ready.key packs (lane, priority, first id) into 64 bits: lane << 42 | priority << 40 | id. A lane
-- is one canonical set of tags, together with a limited key where there is one; the first row of a
-- lane is the next task of it, and a lane that a worker may not see costs its claim nothing.

-- name: schema
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE terms (
    id INTEGER PRIMARY KEY,
    affinity TEXT NOT NULL,
    required TEXT NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 3),
    timeout_seconds REAL NOT NULL CHECK (timeout_seconds > 0),
    max_retries INTEGER NOT NULL CHECK (max_retries >= 0),
    queue_timeout REAL NOT NULL,
    UNIQUE (affinity, required, priority, timeout_seconds, max_retries, queue_timeout)
);
CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    affinity TEXT NOT NULL,
    required TEXT NOT NULL,
    limited TEXT NOT NULL,
    UNIQUE (affinity, required, limited)
);
CREATE TABLE task (
    last INTEGER PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n > 0),
    kept INTEGER NOT NULL CHECK (kept BETWEEN 0 AND n),
    terms INTEGER NOT NULL,
    created_at REAL NOT NULL,
    available_at REAL NOT NULL,
    run_id TEXT,
    key TEXT,
    body BLOB NOT NULL
);
CREATE INDEX task_of_run ON task (run_id, last) WHERE run_id IS NOT NULL;
CREATE TABLE ready (
    key INTEGER PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n > 0),
    terms INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    tries INTEGER NOT NULL
);
CREATE TABLE delayed (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n > 0),
    at REAL NOT NULL,
    key INTEGER NOT NULL,
    terms INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    tries INTEGER NOT NULL
);
CREATE INDEX delayed_at ON delayed (at);
CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n > 0),
    key INTEGER NOT NULL,
    terms INTEGER NOT NULL,
    claims INTEGER NOT NULL CHECK (claims > 0),
    tries INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker_id TEXT NOT NULL,
    granted_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    deadline REAL NOT NULL,
    started_at REAL
);
CREATE TABLE settled (
    id INTEGER PRIMARY KEY,
    n INTEGER NOT NULL CHECK (n > 0),
    status INTEGER NOT NULL CHECK (status IN (1, 2)),
    claims INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker_id TEXT,
    started_at REAL,
    finished_at REAL NOT NULL,
    body BLOB
);
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    claims INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker_id TEXT,
    started_at REAL,
    finished_at REAL NOT NULL
);
CREATE TABLE failure (id INTEGER PRIMARY KEY, error TEXT NOT NULL, traceback TEXT);
CREATE TABLE unique_key (key TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queue_deadline (
    at REAL NOT NULL,
    id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;
CREATE TABLE key_limit (
    key TEXT PRIMARY KEY,
    concurrency INTEGER CHECK (concurrency >= 0),
    rate INTEGER CHECK (rate > 0),
    seconds REAL CHECK (seconds > 0),
    running INTEGER NOT NULL DEFAULT 0,
    tokens REAL NOT NULL DEFAULT 0,
    filled_at REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- ---- words: terms and lanes, never deleted, so that what a process remembers stays true

-- name: add_terms
INSERT OR IGNORE INTO terms
    (affinity, required, priority, timeout_seconds, max_retries, queue_timeout)
VALUES (?, ?, ?, ?, ?, ?);

-- name: find_terms
SELECT id FROM terms
WHERE affinity = ? AND required = ? AND priority = ? AND timeout_seconds = ?
  AND max_retries = ? AND queue_timeout = ?;

-- name: terms
SELECT affinity, required, priority, timeout_seconds, max_retries, queue_timeout
FROM terms WHERE id = ?;

-- name: add_lane
INSERT OR IGNORE INTO lane (affinity, required, limited) VALUES (?, ?, ?);

-- name: find_lane
SELECT id FROM lane WHERE affinity = ? AND required = ? AND limited = ?;

-- name: lanes_after
SELECT id, affinity, required, limited FROM lane WHERE id > ? ORDER BY id;

-- name: data_version
PRAGMA data_version;

-- name: clock
SELECT value FROM meta WHERE name = 'clock';

-- name: put_clock
INSERT OR REPLACE INTO meta (name, value) VALUES ('clock', ?);

-- ---- submit

-- name: last_task
SELECT last FROM task ORDER BY last DESC LIMIT 1;

-- name: add_one
INSERT INTO task (n, kept, terms, created_at, available_at, run_id, key, body)
VALUES (1, 1, ?, ?, ?, ?, ?, ?);

-- name: add_chunk
INSERT INTO task (last, n, kept, terms, created_at, available_at, run_id, key, body)
VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8);

-- name: add_ready
INSERT INTO ready (key, n, terms, claims, tries) VALUES (?, ?, ?, ?, ?);

-- name: add_delayed
INSERT INTO delayed (id, n, at, key, terms, claims, tries) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_queue_deadline
INSERT INTO queue_deadline (at, id, n) VALUES (?, ?, ?);

-- name: find_unique
SELECT key, id FROM unique_key WHERE key IN (SELECT value FROM json_each(?));

-- name: add_unique
INSERT INTO unique_key (key, id) VALUES (?, ?);

-- ---- claim

-- name: lane_rows
SELECT key, n, terms, claims, tries FROM ready
WHERE key >= ? AND key < ? ORDER BY key LIMIT ?;

-- name: lane_head
SELECT ready.key, ready.n, ready.terms, ready.claims, ready.tries,
       task.last, task.n, task.terms, task.created_at, task.available_at, task.run_id, task.key,
       task.body
FROM ready JOIN task ON task.last = (
    SELECT last FROM task WHERE last >= ready.key & 1099511627775 ORDER BY last LIMIT 1)
WHERE ready.key >= ? AND ready.key < ? ORDER BY ready.key LIMIT 1;

-- name: lane_heads
SELECT (SELECT key FROM ready WHERE key >= lane.value AND key < lane.value + 4398046511104
        ORDER BY key LIMIT 1)
FROM json_each(?) AS lane;

-- name: drop_ready
DELETE FROM ready WHERE key = ?;

-- name: drop_ready_range
DELETE FROM ready WHERE key BETWEEN ? AND ?;

-- name: shorten_ready
UPDATE ready SET key = key + ?2, n = n - ?2 WHERE key = ?1;

-- name: cut_ready
UPDATE ready SET n = ?2 WHERE key = ?1;

-- name: add_lease
INSERT INTO lease (id, n, key, terms, claims, tries, epoch, worker_id, granted_at, expires_at,
                   deadline, started_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: chunk_of
SELECT last, n, terms, created_at, available_at, run_id, key, body FROM task
WHERE last >= ? ORDER BY last LIMIT 1;

-- name: chunks_of
SELECT last, n, terms, created_at, available_at, run_id, key, body FROM task
WHERE last BETWEEN ?1 AND (SELECT last FROM task WHERE last >= ?2 ORDER BY last LIMIT 1)
ORDER BY last;

-- ---- leases

-- name: lease_of
SELECT id, n, key, terms, claims, tries, epoch, worker_id, granted_at, expires_at, deadline,
       started_at
FROM lease WHERE id <= ? ORDER BY id DESC LIMIT 1;

-- name: leases
SELECT id, n, key, terms, claims, tries, epoch, worker_id, granted_at, expires_at, deadline,
       started_at
FROM lease ORDER BY id;

-- name: drop_lease
DELETE FROM lease WHERE id = ?;

-- name: cut_lease
UPDATE lease SET n = ?2 WHERE id = ?1;

-- name: shorten_lease
UPDATE lease SET id = id + ?2, key = key + ?2, n = n - ?2 WHERE id = ?1;

-- name: extend_lease
UPDATE lease SET expires_at = ?2 WHERE id = ?1;

-- name: start_lease
UPDATE lease SET started_at = ?2, expires_at = ?3, deadline = ?4 WHERE id = ?1;

-- name: expired_leases
SELECT id, n, key, terms, claims, tries, epoch, worker_id, granted_at, expires_at, deadline,
       started_at
FROM lease WHERE expires_at <= ? ORDER BY id LIMIT ?;

-- name: next_expiry
SELECT min(expires_at) FROM lease;

-- name: shift_leases
UPDATE lease SET granted_at = granted_at + ?1, expires_at = expires_at + ?1,
                 deadline = deadline + ?1, started_at = started_at + ?1;

-- name: shift_delayed
UPDATE delayed SET at = at + ?1;

-- name: shift_queue_deadlines
UPDATE queue_deadline SET at = at + ?1;

-- ---- outcomes

-- name: end_single_lease
DELETE FROM lease WHERE id = ?1 AND n = 1 AND claims = ?2 AND epoch = ?3
RETURNING worker_id, started_at;

-- name: add_settled
INSERT INTO settled (id, n, status, claims, epoch, worker_id, started_at, finished_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_dead
INSERT INTO dead (id, claims, epoch, worker_id, started_at, finished_at)
VALUES (?, ?, ?, ?, ?, ?);

-- name: add_failure
INSERT OR REPLACE INTO failure (id, error, traceback) VALUES (?, ?, ?);

-- name: make_refusals
CREATE TABLE IF NOT EXISTS refusal (id INTEGER PRIMARY KEY, since REAL NOT NULL, claims INTEGER NOT NULL);

-- name: refusal
SELECT since, claims FROM refusal WHERE id = ?;

-- name: add_refusal
INSERT OR REPLACE INTO refusal (id, since, claims) VALUES (?, ?, ?);

-- name: drop_refusal
DELETE FROM refusal WHERE id = ?;

-- name: failure
SELECT error, traceback FROM failure WHERE id = ?;

-- name: settled_of
SELECT id, n, status, claims, epoch, worker_id, started_at, finished_at, body
FROM settled WHERE id <= ? ORDER BY id DESC LIMIT 1;

-- name: dead_of
SELECT id, claims, epoch, worker_id, started_at, finished_at FROM dead WHERE id = ?;

-- name: drop_dead
DELETE FROM dead WHERE id = ?;

-- name: dead_after
SELECT id FROM dead WHERE id > ? ORDER BY id LIMIT ?;

-- ---- waiting

-- name: ready_of
SELECT key, n, terms, claims, tries FROM ready
WHERE key >= ? AND key <= ? ORDER BY key DESC LIMIT 1;

-- name: delayed_of
SELECT id, n, at, key, terms, claims, tries FROM delayed WHERE id <= ? ORDER BY id DESC LIMIT 1;

-- name: drop_delayed
DELETE FROM delayed WHERE id = ?;

-- name: cut_delayed
UPDATE delayed SET n = ?2 WHERE id = ?1;

-- name: due_delayed
SELECT id, n, at, key, terms, claims, tries FROM delayed WHERE at <= ? ORDER BY at LIMIT ?;

-- name: next_delayed
SELECT min(at) FROM delayed;

-- name: due_queue_deadlines
SELECT at, id, n FROM queue_deadline WHERE at <= ? ORDER BY at, id LIMIT ?;

-- name: drop_queue_deadline
DELETE FROM queue_deadline WHERE at = ? AND id = ?;

-- name: next_queue_deadline
SELECT min(at) FROM queue_deadline;

-- ---- limits

-- name: limits
SELECT key, concurrency, rate, seconds, running, tokens, filled_at FROM key_limit;

-- name: put_limit
INSERT INTO key_limit (key, concurrency, rate, seconds, tokens, filled_at, running)
VALUES (?1, ?2, ?3, ?4, coalesce(?3, 0), ?5, ?6)
ON CONFLICT (key) DO UPDATE SET concurrency = ?2, rate = ?3, seconds = ?4,
    running = ?6, tokens = CASE WHEN rate IS NULL THEN coalesce(?3, 0) ELSE min(tokens, coalesce(?3, 0)) END;

-- name: drop_limit
DELETE FROM key_limit WHERE key = ?;

-- name: running_of
SELECT coalesce(sum(lease.n), 0) FROM lease
WHERE lease.key >> 42 IN (SELECT id FROM lane WHERE limited = ?);

-- name: spend_limit
UPDATE key_limit SET running = running + ?2, tokens = ?3, filled_at = ?4 WHERE key = ?1;

-- name: free_limit
UPDATE key_limit SET running = running - ?2 WHERE key = ?1;

-- name: ready_with_key
SELECT ready.key, ready.terms FROM ready
WHERE ready.key >= ?2 AND ready.key < ?2 + 4398046511104
  AND (SELECT task.key FROM task WHERE task.last >= ready.key & 1099511627775
       ORDER BY task.last LIMIT 1) = ?1;

-- name: delayed_with_key
SELECT id, key, terms FROM delayed
WHERE (SELECT task.key FROM task WHERE task.last >= delayed.id ORDER BY task.last LIMIT 1) = ?;

-- name: move_ready
UPDATE ready SET key = ?2 WHERE key = ?1;

-- name: move_delayed
UPDATE delayed SET key = ?2 WHERE id = ?1;

-- ---- cleaning

-- name: old_settled
SELECT id, n, finished_at FROM settled WHERE id > ? ORDER BY id LIMIT ?;

-- name: drop_settled
DELETE FROM settled WHERE id = ?;

-- name: drop_failures
DELETE FROM failure WHERE id BETWEEN ? AND ?;

-- name: drop_unique
DELETE FROM unique_key WHERE key = ? AND id = ?;

-- name: forget_some
UPDATE task SET kept = kept - ?2 WHERE last = ?1;

-- name: drop_task
DELETE FROM task WHERE last = ?1 AND kept = 0
  AND last < (SELECT last FROM task ORDER BY last DESC LIMIT 1);

-- name: task_bodies
SELECT last, body FROM task WHERE last > ? ORDER BY last LIMIT ?;

-- name: settled_bodies
SELECT id, body FROM settled WHERE id > ? AND body IS NOT NULL ORDER BY id LIMIT ?;

-- ---- looking

-- name: tasks_after
SELECT last, n FROM task WHERE last > ? ORDER BY last LIMIT ?;

-- name: tasks_of_run_after
SELECT last, n FROM task WHERE run_id = ?2 AND last > ?1 ORDER BY last LIMIT ?3;

-- name: leases_after
SELECT id + n - 1, n FROM lease
WHERE id >= coalesce((SELECT id FROM lease WHERE id <= ?1 ORDER BY id DESC LIMIT 1), 0)
ORDER BY id LIMIT ?2;

-- name: settled_after
SELECT id + n - 1, n FROM settled
WHERE id >= coalesce((SELECT id FROM settled WHERE id <= ?1 ORDER BY id DESC LIMIT 1), 0)
ORDER BY id LIMIT ?2;

-- name: dead_rows_after
SELECT id, 1 FROM dead WHERE id > ? ORDER BY id LIMIT ?;

-- name: delayed_after
SELECT id + n - 1, n FROM delayed
WHERE id >= coalesce((SELECT id FROM delayed WHERE id <= ?1 ORDER BY id DESC LIMIT 1), 0)
ORDER BY id LIMIT ?2;

-- name: settled_between
SELECT id, n FROM settled
WHERE id BETWEEN coalesce((SELECT id FROM settled WHERE id <= ?1 ORDER BY id DESC LIMIT 1), ?1)
      AND ?2 AND id + n > ?1;

-- name: dead_between
SELECT id FROM dead WHERE id BETWEEN ? AND ?;

-- name: count_ready
SELECT key >> 42, sum(n) FROM ready GROUP BY key >> 42;

-- name: count_delayed
SELECT coalesce(sum(n), 0) FROM delayed;

-- name: count_leases
SELECT coalesce(sum(CASE WHEN started_at IS NULL THEN n ELSE 0 END), 0),
       coalesce(sum(CASE WHEN started_at IS NULL THEN 0 ELSE n END), 0) FROM lease;

-- name: count_settled
SELECT coalesce(sum(CASE WHEN status = 1 THEN n ELSE 0 END), 0),
       coalesce(sum(CASE WHEN status = 2 THEN n ELSE 0 END), 0) FROM settled;

-- name: count_dead
SELECT count(*) FROM dead;

-- name: make_checkpoints
CREATE TABLE IF NOT EXISTS checkpoint (name TEXT PRIMARY KEY, version INTEGER NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;

-- name: make_checkpoint_tasks
CREATE TABLE IF NOT EXISTS checkpoint_task (name TEXT, mark INTEGER, id INTEGER, PRIMARY KEY (name, mark, id)) WITHOUT ROWID;

-- name: checkpoint
SELECT version, state FROM checkpoint WHERE name = ?;

-- name: set_checkpoint
INSERT OR REPLACE INTO checkpoint (name, version, state) VALUES (?, ?, ?);

-- name: add_checkpoint_task
INSERT INTO checkpoint_task (name, mark, id) VALUES (?, ?, ?);

-- name: checkpoint_tasks
SELECT id FROM checkpoint_task WHERE name = ? AND mark > ?;

-- name: drop_checkpoint_tasks
DELETE FROM checkpoint_task WHERE name = ? AND mark > ?;

-- name: forget_checkpoint_tasks
DELETE FROM checkpoint_task WHERE name = ? AND mark < ?;
