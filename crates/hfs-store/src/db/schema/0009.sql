-- Those of a message's prompt tokens that its provider read from its cache and wrote to it; NULL if unknown.
ALTER TABLE message ADD COLUMN cache_read_tokens INTEGER;
ALTER TABLE message ADD COLUMN cache_write_tokens INTEGER;
