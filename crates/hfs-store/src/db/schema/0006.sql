-- Hashes of the sources of purged sessions (see sqlite/purge.rs), so that an import does not bring them back.
CREATE TABLE purged_source (
    no        INTEGER PRIMARY KEY,
    hash      BLOB NOT NULL UNIQUE,
    purged_at INTEGER NOT NULL
) STRICT;
-- Entries of deleted messages are removed from the text index at once, instead of when segments are merged.
INSERT INTO message_text (message_text, rank) VALUES ('secure-delete', 1);
