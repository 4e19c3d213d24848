-- Entities by number, the journal of their changes, snapshots that lag behind it, consumers' places.

CREATE TABLE entities (
    entity INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    alive INTEGER NOT NULL,
    UNIQUE (kind, id)
) STRICT;

CREATE TABLE journal (
    number INTEGER PRIMARY KEY,
    entity INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    observed INTEGER,
    digest INTEGER,
    event TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX journal_revision ON journal (entity, revision);

-- Telemetry comes in roughly in the order of its own time, so this index grows at its end.
CREATE INDEX journal_observed ON journal (observed, digest) WHERE observed IS NOT NULL;

CREATE TABLE snapshots (
    entity INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    held TEXT NOT NULL
) STRICT;

CREATE TABLE cursors (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- checkpoint: every entity changed by events up to this number has a current snapshot.
-- trimmed: events up to this number are forgotten.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO marks VALUES ('checkpoint', 0), ('trimmed', 0);
