-- Earlier states of entities, from which the kept events after them make every state since; see stores/past.py.

CREATE TABLE bases (
    entity INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    held TEXT NOT NULL,
    PRIMARY KEY (entity, revision)
) STRICT;
