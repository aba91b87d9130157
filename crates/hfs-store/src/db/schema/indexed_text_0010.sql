CREATE VIEW indexed_text (no, words, stems, parts) AS
    SELECT message.no, hfs_words(message.body), hfs_stems(message.body), hfs_parts(message.body)
    FROM message JOIN branch ON branch.no = message.no >> 32
    WHERE message.no & 0xffffffff <= branch.indexed;
