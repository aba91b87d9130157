-- The text index has stems, parts of identifiers, and words inside texts without spaces. All messages are indexed again:
-- by the next search, or in the background before it.
DROP TABLE message_text;
DROP VIEW indexed_text;
UPDATE branch SET indexed = forked_at;
UPDATE activity SET waiting = 1 WHERE messages > 0
    AND EXISTS (SELECT 1 FROM session WHERE session.no = activity.session AND session.state <> 2);
