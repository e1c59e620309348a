-- What a coordinator keeps beside the queue, in the queue's file and in its transactions.

-- name: schema
CREATE TABLE IF NOT EXISTS tube (
    cid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    document BLOB NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS run (
    run_id TEXT PRIMARY KEY,
    tube TEXT NOT NULL,
    n INTEGER,
    total INTEGER,
    task_id INTEGER NOT NULL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    status TEXT,
    finished_at REAL,
    error TEXT,
    traceback TEXT
);
CREATE INDEX IF NOT EXISTS run_created ON run (created_at DESC);
CREATE INDEX IF NOT EXISTS run_open ON run (task_id) WHERE status IS NULL;
CREATE INDEX IF NOT EXISTS run_ended ON run (finished_at) WHERE status IS NOT NULL;
CREATE TABLE IF NOT EXISTS run_result (
    run_id TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    cid TEXT NOT NULL,
    frame BLOB,
    UNIQUE (run_id, position)
);
CREATE INDEX IF NOT EXISTS run_result_cid ON run_result (cid);
CREATE TABLE IF NOT EXISTS request (
    once TEXT PRIMARY KEY,
    answer BLOB NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS request_at ON request (at);
CREATE TABLE IF NOT EXISTS learned (
    node TEXT NOT NULL,
    unit TEXT NOT NULL,
    floor REAL NOT NULL,
    evidence INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (node, unit)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    day TEXT NOT NULL,
    place TEXT NOT NULL,
    run_id TEXT NOT NULL,
    money REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (day, place, run_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spending_of_run ON spending (run_id);
CREATE TABLE IF NOT EXISTS trace (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL CHECK (last >= first),
    parent TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS trace_at ON trace (at);

-- ---- requests that must not happen twice

-- name: find_request
SELECT answer FROM request WHERE once = ?;

-- name: add_request
INSERT INTO request (once, answer, at) VALUES (?, ?, ?);

-- name: drop_requests
DELETE FROM request WHERE at < ?;

-- ---- what tasks belong to in their clients' traces

-- name: add_trace
INSERT OR IGNORE INTO trace (first, last, parent, at) VALUES (?, ?, ?, ?);

-- name: find_trace
SELECT last, parent FROM trace WHERE first <= ? ORDER BY first DESC LIMIT 1;

-- name: any_trace
SELECT EXISTS (SELECT 1 FROM trace);

-- name: drop_traces
DELETE FROM trace WHERE at < ?;

-- ---- leases

-- name: give_leases_time
UPDATE lease SET expires_at = max(expires_at, min(deadline, ?1 + min(?2, expires_at - granted_at)))
WHERE expires_at < ?1 + ?2;

-- name: unknown_leases
SELECT id, n, epoch, claims FROM lease
WHERE worker_id = ?1 AND epoch & 4294967295 = ?2 & 4294967295 AND granted_at >= ?3 AND started_at IS NULL;

-- ---- what was learned of nodes whose attempts were killed

-- name: learn
INSERT INTO learned (node, unit, floor, evidence, at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (node, unit) DO UPDATE SET evidence = evidence + ?4, floor = max(floor, ?3), at = ?5;

-- name: learned
SELECT node, unit, floor, evidence, at FROM learned ORDER BY node, unit;

-- name: forget_learned
DELETE FROM learned WHERE at < ?;

-- ---- money

-- name: spend
INSERT INTO spending (day, place, run_id, money, seconds) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (day, place, run_id) DO UPDATE SET money = money + ?4, seconds = seconds + ?5;

-- name: spent_by_place
SELECT place, sum(money), sum(seconds) FROM spending WHERE day = ? GROUP BY place;

-- name: spent_by_runs
SELECT run_id, sum(money) FROM spending WHERE run_id > '' GROUP BY run_id;

-- name: drop_spending
DELETE FROM spending WHERE day < ?;

-- ---- what the capacity loop looks at

-- name: ready_of_lane
SELECT n, (SELECT run_id FROM task WHERE task.last >= ready.key & 1099511627775
           ORDER BY task.last LIMIT 1),
       (SELECT available_at FROM task WHERE task.last >= ready.key & 1099511627775
        ORDER BY task.last LIMIT 1)
FROM ready WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3;

-- name: any_lease
SELECT 1 FROM lease LIMIT 1;

-- name: held_by_worker
SELECT worker_id, (SELECT run_id FROM task WHERE task.last >= lease.id ORDER BY task.last LIMIT 1),
       sum(n)
FROM lease GROUP BY 1, 2;

-- name: node_seconds
SELECT id, n, started_at, finished_at FROM settled
WHERE status = 1 AND started_at IS NOT NULL ORDER BY id DESC LIMIT ?;

-- ---- tubes

-- name: add_tube
INSERT OR IGNORE INTO tube (cid, name, document, created_at) VALUES (?, ?, ?, ?);

-- name: tube
SELECT document FROM tube WHERE cid = ?;

-- name: tubes
SELECT cid, name, length(document), created_at FROM tube ORDER BY created_at DESC LIMIT ?;

-- ---- runs

-- name: add_run
INSERT INTO run (run_id, tube, n, total, task_id, created_at, created_by)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: run
SELECT run_id, tube, n, total, task_id, created_at, created_by, status, finished_at, error,
       traceback,
       (SELECT coalesce(max(position) + 1, 0) FROM run_result
        WHERE run_result.run_id = run.run_id)
FROM run WHERE run_id = ?;

-- name: runs
SELECT run_id, tube, n, total, task_id, created_at, created_by, status, finished_at, error,
       traceback,
       (SELECT coalesce(max(position) + 1, 0) FROM run_result
        WHERE run_result.run_id = run.run_id)
FROM run ORDER BY created_at DESC LIMIT ?;

-- name: open_runs
SELECT run_id, task_id FROM run WHERE status IS NULL;

-- name: end_run
UPDATE run SET status = ?2, finished_at = ?3, error = ?4, traceback = ?5
WHERE run_id = ?1 AND status IS NULL;

-- name: reopen_run
UPDATE run SET status = NULL, finished_at = NULL, error = NULL, traceback = NULL
WHERE task_id = ?;

-- name: run_state
SELECT task_id, status FROM run WHERE run_id = ?;

-- name: old_run
SELECT run_id FROM run WHERE status IS NOT NULL AND finished_at < ?
ORDER BY finished_at LIMIT 1;

-- name: drop_run
DELETE FROM run WHERE run_id = ?;

-- ---- results

-- name: add_result
INSERT OR IGNORE INTO run_result (run_id, position, cid, frame) VALUES (?, ?, ?, ?);

-- name: drop_results
DELETE FROM run_result
WHERE rowid IN (SELECT rowid FROM run_result WHERE run_id = ? ORDER BY position DESC LIMIT ?);

-- name: results
SELECT position, cid, frame FROM run_result
WHERE run_id = ? AND position >= ? ORDER BY position LIMIT ?;

-- name: result_by_cid
SELECT frame FROM run_result WHERE cid = ? AND frame IS NOT NULL LIMIT 1;

-- name: live_cids
SELECT cid FROM run_result WHERE frame IS NULL
UNION SELECT tube FROM run WHERE status IS NULL;

-- name: result_frames
SELECT rowid, frame FROM run_result WHERE rowid > ? AND frame IS NOT NULL ORDER BY rowid LIMIT ?;

-- name: tube_documents
SELECT rowid, document FROM tube WHERE rowid > ? ORDER BY rowid LIMIT ?;
