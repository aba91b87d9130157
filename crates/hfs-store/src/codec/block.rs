//! The column `block.data`: the texts of consecutive messages of a branch, compressed together.
//!
//! A block is one zstd frame. It contains the body and the passthrough fields of each message, one text after another, then
//! the lengths of these texts (eight bytes for each message), then the number of messages (four bytes). The lengths are at
//! the end, so that the texts stay where zstd has written them.
//!
//! Decision 67 compares blocks with one frame for each message.

use crate::codec::compression::{compress_texts, content_size, decompress};
use crate::error::{Error, Result};

/// Largest size of the texts in a block of several messages. Twice as large, the blocks of real transcripts take 5 % less
/// space, and to read one message takes twice the time.
pub(crate) const MAX_TEXT_BYTES: usize = 60 * 1024;
/// Largest number of messages in a block. Callers read long histories in pages of 50 to 200 messages, and each page decompresses
/// its first block again.
pub(crate) const MAX_MESSAGES: usize = 250;
/// Largest size of the texts of a message that is stored in a block, as the only one. A larger message stays in its row, so
/// that a block never needs much memory.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Smallest size of the texts in a block. Fewer bytes hardly become less.
pub(crate) const MIN_TEXT_BYTES: usize = 512;

/// Bytes for the lengths of a message's texts.
const LENGTHS: usize = 2 * size_of::<u32>();
/// Bytes for the number of messages.
const COUNT: usize = size_of::<u32>();
/// Largest content of a frame. A damaged frame may declare more.
const MAX_CONTENT: usize = MAX_MESSAGE_BYTES + MAX_MESSAGES * LENGTHS + COUNT;

/// The texts of a message, as they are in the columns `body` and `extra`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Texts<'t> {
    pub(crate) body: &'t str,
    pub(crate) extra: Option<&'t str>,
}

impl Texts<'_> {
    /// Size in bytes.
    pub(crate) fn len(self) -> usize {
        self.body.len() + self.extra.map_or(0, str::len)
    }

    /// Whether a block can contain these texts.
    pub(crate) fn fit_in_block(self) -> bool {
        // In a block, no passthrough fields and empty ones are the same. The latter are not valid.
        self.len() <= MAX_MESSAGE_BYTES && self.extra != Some("")
    }
}

/// Collects the texts of a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    texts: String,
    lengths: Vec<[usize; 2]>,
}

/// A block as it is stored.
#[derive(Debug)]
pub(crate) struct EncodedBlock {
    /// Size of the texts in bytes.
    pub(crate) size: usize,
    pub(crate) data: Vec<u8>,
}

impl BlockBuilder {
    /// Whether there is room for the texts of one more message. There always is in an empty block.
    pub(crate) fn has_room_for(&self, texts: Texts<'_>) -> bool {
        self.lengths.is_empty()
            || (self.lengths.len() < MAX_MESSAGES && self.texts.len() + texts.len() <= MAX_TEXT_BYTES)
    }

    pub(crate) fn push(&mut self, texts: Texts<'_>) {
        let extra = texts.extra.unwrap_or_default();
        self.texts.push_str(texts.body);
        self.texts.push_str(extra);
        self.lengths.push([texts.body.len(), extra.len()]);
    }

    /// Whether the texts are long enough for a block.
    pub(crate) const fn is_worthwhile(&self) -> bool {
        self.texts.len() >= MIN_TEXT_BYTES
    }

    /// Compresses the texts. Reads the result again, so that a block that does not have exactly these texts is never stored.
    pub(crate) fn finish(self) -> Result<EncodedBlock> {
        let too_large = || Error::Internal("the texts of a message are too long for a block".into());
        let as_u32 = |number: usize| u32::try_from(number).map_err(|_| too_large());
        let Self { texts, lengths } = self;
        let size = texts.len();
        let mut content = texts.clone().into_bytes();
        for length in lengths.iter().flatten() {
            content.extend(as_u32(*length)?.to_le_bytes());
        }
        content.extend(as_u32(lengths.len())?.to_le_bytes());
        if content.len() > MAX_CONTENT {
            return Err(too_large());
        }
        let data = compress_texts(&content)
            .map_err(|error| Error::Internal(format!("messages cannot be compressed: {error}")))?;
        let block = Block::decode(&data)?;
        if block.texts != texts || !block.lengths().eq(lengths) {
            return Err(Error::Internal("compressed messages differ from the original ones".into()));
        }
        Ok(EncodedBlock { size, data })
    }
}

/// A decompressed block.
#[derive(Debug)]
pub(crate) struct Block {
    texts: String,
    /// Where the body and the passthrough fields of each message end.
    ends: Vec<[usize; 2]>,
}

impl Block {
    pub(crate) fn decode(data: &[u8]) -> Result<Self> {
        let corrupt =
            |reason: &str| Error::Corrupt(format!("the block of the messages is damaged: {reason}"));
        let size = content_size(data).map_err(|error| corrupt(&error.to_string()))?;
        if size > MAX_CONTENT {
            return Err(corrupt(&format!("it declares {size} bytes")));
        }
        let mut content = decompress(data, size).map_err(|error| corrupt(&error.to_string()))?;
        let (rest, count) = content
            .split_last_chunk::<COUNT>()
            .ok_or_else(|| corrupt("the number of messages is missing"))?;
        let count = u32::from_le_bytes(*count) as usize;
        let length = count
            .checked_mul(LENGTHS)
            .and_then(|lengths| rest.len().checked_sub(lengths))
            .ok_or_else(|| corrupt("the lengths are missing"))?;
        let mut end = 0_usize;
        let (lengths, _) = rest.get(length..).unwrap_or_default().as_chunks::<LENGTHS>();
        let ends = lengths
            .iter()
            .map(|[a, b, c, d, e, f, g, h]| {
                let body = end.saturating_add(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
                end = body.saturating_add(u32::from_le_bytes([*e, *f, *g, *h]) as usize);
                [body, end]
            })
            .collect();
        if end != length {
            return Err(corrupt("the lengths do not match the texts"));
        }
        content.truncate(length);
        let texts = String::from_utf8(content).map_err(|_| corrupt("the texts are not valid UTF-8"))?;
        Ok(Self { texts, ends })
    }

    /// Number of messages.
    pub(crate) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Size of the texts in bytes.
    pub(crate) const fn size(&self) -> usize {
        self.texts.len()
    }

    /// The texts of a message, from 0.
    pub(crate) fn texts(&self, index: usize) -> Result<Texts<'_>> {
        let find = || {
            let [body, extra] = *self.ends.get(index)?;
            let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
            let start = before.map_or(0, |[_, end]| *end);
            let extra = self.texts.get(body..extra)?;
            Some(Texts { body: self.texts.get(start..body)?, extra: (!extra.is_empty()).then_some(extra) })
        };
        find().ok_or_else(|| Error::Corrupt(format!("the block has no texts of its message {index}")))
    }

    fn lengths(&self) -> impl Iterator<Item = [usize; 2]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|[_, end]| *end));
        starts.zip(&self.ends).map(|(start, [body, extra])| [body - start, extra - body])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::compression::compress;

    fn encode(messages: &[(String, Option<String>)]) -> EncodedBlock {
        let mut builder = BlockBuilder::default();
        for (body, extra) in messages {
            builder.push(Texts { body, extra: extra.as_deref() });
        }
        builder.finish().unwrap()
    }

    prop_compose! {
        fn messages()(messages in prop::collection::vec(
            ("(=[a-c\u{e4}\n]{0,20}){0,9}", prop::option::of("\\{[a-c\u{1f600}]{1,40}\\}")), 1..40,
        )) -> Vec<(String, Option<String>)> {
            messages
        }
    }

    proptest! {
        #[test]
        fn a_block_has_the_texts_of_its_messages(messages in messages()) {
            let encoded = encode(&messages);
            let block = Block::decode(&encoded.data).unwrap();
            prop_assert_eq!((block.len(), block.size()), (messages.len(), encoded.size));
            for (index, (body, extra)) in messages.iter().enumerate() {
                let texts = Texts { body, extra: extra.as_deref() };
                prop_assert_eq!(block.texts(index).unwrap(), texts);
            }
            prop_assert!(matches!(block.texts(messages.len()), Err(Error::Corrupt(_))));
        }

        #[test]
        fn a_damaged_block_never_has_other_texts(
            messages in messages(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>(),
        ) {
            let intact = encode(&messages);
            let mut data = intact.data.clone();
            let place = at.index(data.len());
            data[place] ^= flip;
            if let Ok(block) = Block::decode(&data) {
                prop_assert_eq!(&block.texts, &Block::decode(&intact.data).unwrap().texts);
            }
            data.truncate(cut.index(data.len()));
            prop_assert!(Block::decode(&data).is_err());
        }

        #[test]
        fn decoding_never_panics(noise in prop::collection::vec(any::<u8>(), 0..80), index in 0..9_usize) {
            let _ = Block::decode(&noise);
            // A valid frame around the noise.
            if let Ok(block) = Block::decode(&compress(&noise).unwrap()) {
                let _ = block.texts(index).map(Texts::len);
                let _ = block.lengths().count();
            }
        }
    }

    #[test]
    fn a_block_that_declares_too_much_needs_no_memory_for_it() {
        // A frame header with an 8-byte content size, as in https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1.
        for declared in [1_u64 << 40, 900_000_000, MAX_CONTENT as u64 + 1] {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
            frame.extend(declared.to_le_bytes());
            frame.extend([0; 16]);
            assert!(matches!(Block::decode(&frame), Err(Error::Corrupt(_))), "{declared}");
        }
        let bomb = compress(&vec![0; MAX_CONTENT + 1]).unwrap();
        assert!(matches!(Block::decode(&bomb), Err(Error::Corrupt(_))));
    }

    #[test]
    fn wrong_lengths_are_reported_as_corrupt() {
        let content = |texts: &[u8], lengths: &[u32]| {
            let numbers = lengths.iter().flat_map(|number| number.to_le_bytes());
            compress(&texts.iter().copied().chain(numbers).collect::<Vec<_>>()).unwrap()
        };
        let wrong = [
            content(b"", &[]),
            content(b"abc", &[2, 0, 1]),
            content(b"abc", &[4, 0, 1]),
            content(b"abc", &[u32::MAX, u32::MAX, 1]),
            content(b"abc", &[3, 0, 2]),
            content(b"abc", &[3, 0, u32::MAX]),
            content(b"ab\xff", &[3, 0, 1]),
        ];
        for data in wrong {
            assert!(matches!(Block::decode(&data), Err(Error::Corrupt(_))));
        }
        // The boundary is inside of a character.
        let block = Block::decode(&content("\u{e4}".as_bytes(), &[1, 1, 1])).unwrap();
        assert!(matches!(block.texts(0), Err(Error::Corrupt(_))));
    }

    #[test]
    fn there_is_room_for_short_messages_or_for_one_long_message() {
        let text = "a".repeat(MAX_TEXT_BYTES);
        let (short, long) = (Texts { body: "a", extra: None }, Texts { body: &text, extra: Some("{}") });
        let mut builder = BlockBuilder::default();
        assert!(builder.has_room_for(long));
        builder.push(long);
        assert!(!builder.has_room_for(short));
        let mut builder = BlockBuilder::default();
        for _ in 0..MAX_MESSAGES {
            assert!(builder.has_room_for(short));
            builder.push(short);
        }
        assert!(!builder.has_room_for(short));
        assert!(!Texts { body: "=", extra: Some("") }.fit_in_block());
    }
}
