CREATE VIRTUAL TABLE message_text USING fts5 (
    text, content = 'indexed_text', content_rowid = 'no', tokenize = 'unicode61 remove_diacritics 2'
);
