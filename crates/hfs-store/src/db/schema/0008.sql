-- Where the next import of a source continues if the source has only grown; NULL if it is read from its beginning.
ALTER TABLE import_source ADD COLUMN resume_point BLOB;
