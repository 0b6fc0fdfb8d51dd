-- Schema 2. Times are whole microseconds since 1970 (UTC). The wide column comes last in every table, so that what
-- stands before it can be compared without reading it.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    sequence INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    type     TEXT NOT NULL,
    source   TEXT,
    task     TEXT,
    kind     TEXT,
    status   TEXT,
    id       TEXT NOT NULL UNIQUE,
    body     BLOB NOT NULL
) STRICT;
CREATE INDEX event_task ON event (task, sequence) WHERE task IS NOT NULL;
CREATE INDEX event_received ON event (received);

CREATE TABLE task (
    key        TEXT PRIMARY KEY,
    source     TEXT NOT NULL,
    kind       TEXT,
    status     TEXT NOT NULL,
    finished   INTEGER NOT NULL,
    created_at TEXT,
    stream     TEXT,
    updated    INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    state      BLOB NOT NULL
) STRICT;
CREATE INDEX task_unfinished ON task (key) WHERE finished = 0;
CREATE INDEX task_finished ON task (updated) WHERE finished = 1;

-- the greatest creation time ever seen of a source: it outlives the task it came with
CREATE TABLE source (
    name   TEXT PRIMARY KEY,
    newest TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cursor (
    source TEXT NOT NULL,
    stream TEXT NOT NULL,
    value  BLOB NOT NULL,
    PRIMARY KEY (source, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE position (
    endpoint TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- what an endpoint is and what became of it, opaque to the store
CREATE TABLE endpoint (
    name   TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    endpoint TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    task     TEXT,
    state    TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    due      INTEGER,
    updated  INTEGER NOT NULL,
    attempts BLOB NOT NULL,
    PRIMARY KEY (endpoint, sequence)
) STRICT;
-- what was delivered, nearly all there is, is found by its key: an index costs every delivery
CREATE INDEX delivery_state ON delivery (endpoint, state, sequence) WHERE state <> 'delivered';
CREATE INDEX delivery_needed ON delivery (sequence) WHERE state <> 'delivered';
CREATE INDEX delivery_settled ON delivery (state, updated, length(attempts)) WHERE state <> 'pending';
