-- Sources at their last complete import, so that unchanged ones need not be read again. Losing rows costs only time.
CREATE TABLE import_source (
    no          INTEGER PRIMARY KEY,
    path        TEXT NOT NULL UNIQUE,
    -- Identifies the state of the source and the version of its reader.
    fingerprint BLOB NOT NULL
) STRICT;
-- The sessions in each source, by id: a session may be purged.
CREATE TABLE import_source_session (
    source  INTEGER NOT NULL REFERENCES import_source (no),
    session BLOB NOT NULL,
    PRIMARY KEY (source, session)
) STRICT, WITHOUT ROWID;
