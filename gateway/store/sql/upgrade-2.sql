-- From schema 1 to 2. An endpoint that had answered 410 said so in a row of deliveries at position 0, which no event has.

CREATE TABLE endpoint (
    name   TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO endpoint
SELECT endpoint, CAST('{"disabled":"it answered 410"}' AS BLOB) FROM delivery WHERE sequence = 0 AND state = 'pending';
DELETE FROM delivery WHERE sequence = 0;

DROP INDEX delivery_state;
CREATE INDEX delivery_state ON delivery (endpoint, state, sequence) WHERE state <> 'delivered';

DROP INDEX delivery_settled;
CREATE INDEX delivery_settled ON delivery (state, updated, length(attempts)) WHERE state <> 'pending';
