-- New and changed rows have XXH3 checksums (see codec/checksum.rs), and message bodies have their texts after the JSON (see
-- codec/body.rs). Existing rows are not changed. The version is increased because older programs would report new rows as
-- damaged, and change them in a repair.
SELECT 1;
