-- The text index. hfs prepares its columns (see hfs-retrieval): tokens separated by spaces, in lower case and without
-- diacritics. The tokenizer only splits them again; to it, every byte of a character outside of ASCII is a letter. The
-- separator between identifiers is a token, so that no phrase extends across it.
CREATE VIRTUAL TABLE message_text USING fts5 (
    words, stems, parts, content = 'indexed_text', content_rowid = 'no', tokenize = "ascii tokenchars '|'"
);
-- Entries of deleted messages are removed at once, instead of when segments are merged.
INSERT INTO message_text (message_text, rank) VALUES ('secure-delete', 1);
