-- New and changed rows have XXH3 checksums (see codec/checksum.rs), and message bodies have their texts after the JSON (see
-- codec/body.rs). Existing rows stay as they are; the new version keeps older programs from taking new rows for damage and
-- repairing them away.
SELECT 1;
