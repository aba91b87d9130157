//! A pull parser for one JSON document of any size.
//!
//! The caller steps through the structure of the document and reads or skips its values. Only the value that
//! is being read is in memory. `serde_json` can stream values only from a top-level sequence, but many tools
//! export their messages as an array inside an object.

use std::io::{self, Read};

use super::lines::MAX_LINE;

const READ_BYTES: usize = 64 << 10;
/// Limit on the bytes that are scanned in vain for the end of elements after damage, so that hostile documents take linear time.
const RECOVERY_BYTES: usize = 256 << 20;
/// Number of keys by which elements of an array are recognized, and the length of the text that has them.
const SHAPE_KEYS: usize = 2;
const SHAPE_BYTES: usize = 4 << 10;

/// The error of a [`PullParser`].
#[derive(Debug)]
pub(crate) enum PullError {
    /// The input could not be read.
    Io(io::Error),
    /// The document is malformed.
    Damaged {
        /// Byte offset.
        at: u64,
        /// Description of the problem.
        reason: &'static str,
    },
}

impl From<io::Error> for PullError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) type PullResult<T> = Result<T, PullError>;

/// The first keys of an element of an array. They tell the elements after damage from the objects inside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ElementShape(Vec<String>);

impl ElementShape {
    /// The shape of an element with this text, which may be damaged.
    fn of(text: &str) -> Self {
        let mut keys = Vec::new();
        let mut read = || -> PullResult<()> {
            let mut parser = PullParser::new(text.as_bytes())?;
            parser.enter()?;
            while keys.len() < SHAPE_KEYS
                && let Some(key) = parser.next_key()?
            {
                keys.push(key);
                parser.skip()?;
            }
            Ok(())
        };
        // The keys before damage are known.
        let _ = read();
        Self(keys)
    }

    /// Whether the keys that both have are equal.
    fn is_like(&self, other: &Self) -> bool {
        !self.0.is_empty() && !other.0.is_empty() && self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

/// An element of an array.
pub(crate) enum Element<'a> {
    /// Its text, which may not be valid JSON.
    Text(&'a str),
    /// Text whose end cannot be found.
    Damaged {
        /// Byte offset.
        at: u64,
        /// Description of the problem.
        reason: &'static str,
    },
}

/// Calls `visit` for each element of the array that the parser has entered, with the number of bytes consumed. `visit` returns whether
/// the element is of the expected kind. After damage, continues with the next element that resembles such a one.
///
/// `close` ends the object that contains the array; `None` if the array is the document.
///
/// # Errors
/// Returns any error of `visit` and of the input, and the damage after which there is no further element.
pub(crate) fn visit_elements<R: Read, E: From<PullError>>(
    parser: &mut PullParser<R>,
    close: Option<u8>,
    mut visit: impl FnMut(Element<'_>, u64) -> Result<bool, E>,
) -> Result<(), E> {
    let mut shape: Option<ElementShape> = None;
    loop {
        let next = match parser.next_element() {
            Ok(true) => parser.value().map(Some),
            Ok(false) => parser.check_end(close).map(|()| None),
            Err(error) => Err(error),
        };
        match next {
            Ok(Some(text)) => {
                if visit(Element::Text(&text), parser.consumed())? && shape.is_none() {
                    shape = Some(ElementShape::of(&text));
                }
            }
            Ok(None) => return Ok(()),
            Err(PullError::Damaged { at, reason }) => {
                if !parser.recover(shape.as_ref())? {
                    return Err(PullError::Damaged { at, reason }.into());
                }
                visit(Element::Damaged { at, reason }, parser.consumed())?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A parser that the caller moves forward through a document. It checks only the structure that it steps
/// through; the text of a value is validated when the caller parses it.
pub(crate) struct PullParser<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    /// Number of bytes that were removed from the front of the buffer.
    discarded: u64,
    ended: bool,
    /// Whether the next key or element is the first one in its container.
    first: bool,
}

impl<R: Read> PullParser<R> {
    /// Starts at the beginning of a document.
    ///
    /// # Errors
    /// Returns any error of the input.
    pub(crate) fn new(input: R) -> PullResult<Self> {
        let mut parser = Self { input, buffer: Vec::new(), at: 0, discarded: 0, ended: false, first: true };
        while parser.buffer.len() < 3 && !parser.ended {
            parser.fill()?;
        }
        if parser.buffer.starts_with("\u{feff}".as_bytes()) {
            parser.at = 3;
        }
        Ok(parser)
    }

    /// Offset of the current position in the input.
    pub(crate) fn consumed(&self) -> u64 {
        self.discarded + self.at as u64
    }

    /// The next byte that is not white space; `None` at the end.
    pub(crate) fn peek(&mut self) -> PullResult<Option<u8>> {
        loop {
            match self.buffer.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(Some(byte)),
                None if self.ended => return Ok(None),
                None => self.fill()?,
            }
        }
    }

    /// Checks that nothing follows the document.
    ///
    /// # Errors
    /// Damage if something does, such as a second document of files that were joined.
    pub(crate) fn end(&mut self) -> PullResult<()> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.damaged("more follows the end of the document, and is not read")),
        }
    }

    /// Enters the object or array at the current position.
    pub(crate) fn enter(&mut self) -> PullResult<()> {
        match self.peek()? {
            Some(b'{' | b'[') => {
                self.at += 1;
                self.first = true;
                Ok(())
            }
            _ => Err(self.damaged("expected an object or an array")),
        }
    }

    /// In an object: returns the next key and stops before its value. At the end, leaves the object and
    /// returns `None`.
    pub(crate) fn next_key(&mut self) -> PullResult<Option<String>> {
        if !self.step(b'}')? {
            return Ok(None);
        }
        if self.peek()? != Some(b'"') {
            return Err(self.damaged("expected a key"));
        }
        let text = self.value()?;
        let key = super::parse(&text).and_then(|parsed| parsed.value.as_str().map(str::to_owned));
        if self.peek()? != Some(b':') {
            return Err(self.damaged("expected a colon"));
        }
        self.at += 1;
        key.map(Some).ok_or_else(|| self.damaged("expected a key"))
    }

    /// In an array: returns whether there is another element. At the end, leaves the array and returns
    /// `false`.
    pub(crate) fn next_element(&mut self) -> PullResult<bool> {
        self.step(b']')
    }

    /// Moves from damage in an array to the next element that is complete and begins with the same keys as `known`, an element before
    /// the damage, or as the damaged one. Returns whether there is such an element.
    ///
    /// # Errors
    /// Returns any error of the input.
    fn recover(&mut self, known: Option<&ElementShape>) -> PullResult<bool> {
        self.buffer_ahead(SHAPE_BYTES)?;
        let shape = known.cloned().unwrap_or_else(|| self.shape_ahead());
        let mut budget = RECOVERY_BYTES;
        let mut previous = b' ';
        loop {
            let Some(&byte) = self.buffer.get(self.at) else {
                if self.ended {
                    return Ok(false);
                }
                self.fill()?;
                continue;
            };
            if byte == b'{' && matches!(previous, b',' | b'[') {
                self.buffer_ahead(SHAPE_BYTES)?;
                if self.shape_ahead().is_like(&shape) {
                    match self.find_end(Some(MAX_LINE)) {
                        Ok(_) => {
                            self.first = true;
                            return Ok(true);
                        }
                        Err(PullError::Io(error)) => return Err(PullError::Io(error)),
                        Err(PullError::Damaged { .. }) => {
                            match budget.checked_sub(self.buffer.len() - self.at) {
                                Some(rest) => budget = rest,
                                None => return Ok(false),
                            }
                        }
                    }
                }
            }
            if !byte.is_ascii_whitespace() {
                previous = byte;
            }
            self.at += 1;
        }
    }

    /// Checks what follows an array: nothing, or the rest of the object that contains it.
    fn check_end(&mut self, close: Option<u8>) -> PullResult<()> {
        let is_end = match (self.peek()?, close) {
            (None, _) => true,
            (Some(b','), Some(_)) => {
                self.buffer_ahead(SHAPE_BYTES)?;
                let rest = self.buffer.get(self.at + 1..).unwrap_or_default();
                rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| *byte == b'"')
            }
            (Some(byte), close) => close == Some(byte),
        };
        if is_end { Ok(()) } else { Err(self.damaged("the array has a bracket too many")) }
    }

    /// Reads until the buffer contains this number of bytes after the current position, or the rest of the input.
    fn buffer_ahead(&mut self, length: usize) -> PullResult<()> {
        while self.buffer.len() < self.at + length && !self.ended {
            self.fill()?;
        }
        Ok(())
    }

    fn shape_ahead(&self) -> ElementShape {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        ElementShape::of(&String::from_utf8_lossy(rest.get(..SHAPE_BYTES).unwrap_or(rest)))
    }

    /// Moves past the comma before the next item, or past `close`. Returns whether there is another item.
    fn step(&mut self, close: u8) -> PullResult<bool> {
        let first = std::mem::replace(&mut self.first, false);
        match self.peek()? {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) => Err(self.damaged("expected a comma")),
            None => Err(self.damaged("the document ends too early")),
        }
    }

    /// Reads the text of the next value.
    pub(crate) fn value(&mut self) -> PullResult<String> {
        self.value_up_to(MAX_LINE)
    }

    /// Reads the text of the next value, of at most `max` bytes.
    pub(crate) fn value_up_to(&mut self, max: usize) -> PullResult<String> {
        let length = self.find_end(Some(max))?;
        let bytes = self.buffer.get(self.at..self.at + length).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.at += length;
        self.first = false;
        Ok(text)
    }

    /// Skips the next value, whatever its size.
    pub(crate) fn skip(&mut self) -> PullResult<()> {
        let length = self.find_end(None)?;
        self.at += length;
        self.first = false;
        Ok(())
    }

    /// Finds the end of the next value and returns its distance from the current position.
    ///
    /// With `max`, the position stays at the beginning of the value, which must fit into `max` bytes. With
    /// `None`, the position moves forward during the scan, so a value of any length can be skipped.
    fn find_end(&mut self, max: Option<usize>) -> PullResult<usize> {
        let first_byte = self.peek()?.ok_or_else(|| self.damaged("the document ends too early"))?;
        let mut end = 0_usize;
        // The brackets that are open.
        let mut open: Vec<u8> = Vec::new();
        let mut in_string = false;
        let mut escaped = false;
        loop {
            while let Some(&byte) = self.buffer.get(self.at + end) {
                end += 1;
                if in_string {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => in_string = false,
                        _ => continue,
                    }
                } else {
                    match byte {
                        b'"' => in_string = true,
                        b'{' | b'[' => open.push(byte),
                        b'}' | b']' => match open.pop() {
                            None => return Ok(end - 1),
                            Some(opening) if (opening == b'{') != (byte == b'}') => {
                                return Err(self.damaged("a bracket is closed by one of another kind"));
                            }
                            Some(_) => {}
                        },
                        b',' | b' ' | b'\t' | b'\r' | b'\n' if open.is_empty() => return Ok(end - 1),
                        _ => {}
                    }
                }
                if open.is_empty() && !in_string && matches!(first_byte, b'"' | b'{' | b'[') {
                    return Ok(end);
                }
            }
            if self.ended {
                let complete = open.is_empty() && !in_string;
                return if complete {
                    Ok(end)
                } else {
                    Err(self.damaged("the document ends inside a value"))
                };
            }
            if max.is_some_and(|max| end > max) {
                return Err(self.damaged("a single value is too large"));
            }
            if max.is_none() {
                self.at += end;
                end = 0;
            }
            self.fill()?;
        }
    }

    fn damaged(&self, reason: &'static str) -> PullError {
        PullError::Damaged { at: self.consumed(), reason }
    }

    fn fill(&mut self) -> PullResult<()> {
        // Remove the consumed bytes only if they are at least half of the buffer, so that moving the rest to
        // the front takes linear time in total.
        if self.at >= READ_BYTES.max(self.buffer.len() / 2) {
            self.buffer.drain(..self.at);
            self.discarded += self.at as u64;
            self.at = 0;
        }
        let old = self.buffer.len();
        // Grow by doubling, so that reading a large value copies each byte a constant number of times.
        self.buffer.resize(old + READ_BYTES.max(old - self.at), 0);
        let read = loop {
            match self.input.read(self.buffer.get_mut(old..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns at most three bytes per read.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let take = out.len().min(3).min(self.0.len());
            let (now, later) = self.0.split_at(take);
            out[..take].copy_from_slice(now);
            self.0 = later;
            Ok(take)
        }
    }

    #[test]
    fn a_document_is_parsed_step_by_step() {
        let text = "\u{feff} { \"a\\\"b\" : [1, \"x]\" ,{\"c\":[]}], \"skip\": {\"d\":[1,2]}, \"n\": null } ";
        let mut parser = PullParser::new(Trickle(text.as_bytes())).unwrap();
        parser.enter().unwrap();
        assert_eq!(parser.next_key().unwrap().as_deref(), Some("a\"b"));
        parser.enter().unwrap();
        let mut items = Vec::new();
        while parser.next_element().unwrap() {
            items.push(parser.value().unwrap());
        }
        assert_eq!(items, ["1", "\"x]\"", "{\"c\":[]}"]);
        assert_eq!(parser.next_key().unwrap().as_deref(), Some("skip"));
        parser.skip().unwrap();
        assert_eq!(parser.next_key().unwrap().as_deref(), Some("n"));
        assert_eq!(parser.value().unwrap(), "null");
        assert_eq!(parser.next_key().unwrap(), None);
        assert_eq!(parser.peek().unwrap(), None);
        assert_eq!(parser.consumed(), text.len() as u64);
    }

    #[test]
    fn elements_after_damage_are_found() {
        let element =
            |id: usize, inside: &str| format!("{{\"id\": {id}, \"text\": \"t\", \"list\": [{inside}]}}");
        let inner = "{\"id\": 7, \"kind\": 1}, {\"id\": 8, \"kind\": 1}";
        let good = |id: usize| element(id, inner);
        let ids = |text: &str, close: Option<u8>| {
            let (mut found, mut damaged) = (Vec::new(), 0);
            let mut parser = PullParser::new(Trickle(text.as_bytes())).unwrap();
            parser.enter().unwrap();
            if close.is_some() {
                parser.next_key().unwrap();
                parser.enter().unwrap();
            }
            let read = visit_elements(&mut parser, close, |element, _| {
                let id = match element {
                    Element::Text(text) => crate::json::parse(text).and_then(|it| it.value["id"].as_u64()),
                    Element::Damaged { .. } => None,
                };
                damaged += usize::from(id.is_none());
                found.extend(id);
                Ok::<bool, PullError>(id.is_some())
            });
            (found, damaged > 0, read.is_ok())
        };
        for damaged in [
            element(2, inner).replacen("\"t\"", "\"t", 1),
            element(2, "{\"id\": 7, \"kind\": 1"),
            element(2, "{\"id\": 7, \"kind\": 1}]"),
            "{\"id\": 2, \"te".to_owned(),
            "]".to_owned(),
        ] {
            let list = format!("[{}, {damaged}, {}, {}]", good(1), good(3), good(4));
            assert_eq!(ids(&list, None), (vec![1, 3, 4], true, true), "{list}");
            let object = format!("{{\"list\": {list}, \"after\": 1}}");
            assert_eq!(ids(&object, Some(b'}')), (vec![1, 3, 4], true, true), "{object}");
            let at_the_beginning = format!("[{damaged}, {}, {}]", good(3), good(4));
            if damaged != "]" {
                assert_eq!(ids(&at_the_beginning, None), (vec![3, 4], true, true), "{at_the_beginning}");
            }
            let at_the_end = format!("[{}, {damaged}", good(1));
            assert_eq!(ids(&at_the_end, None).0, [1], "{at_the_end}");
        }
        assert_eq!(ids("[{\"id\": 2, \"te", None), (vec![], false, false));
        assert_eq!(ids(&format!("[{}]\n", good(1)), None), (vec![1], false, true));
    }

    #[test]
    fn errors_report_their_offset() {
        let mut parser = PullParser::new(&b"[1, [2, 3"[..]).unwrap();
        parser.enter().unwrap();
        assert!(parser.next_element().unwrap());
        parser.skip().unwrap();
        assert!(parser.next_element().unwrap());
        assert!(matches!(parser.value(), Err(PullError::Damaged { at: 4, .. })));
    }

    proptest! {
        #[test]
        fn elements_are_returned_as_written(
            values in prop::collection::vec(crate::json::value::tests::any_value(), 0..8),
        ) {
            let text = serde_json::to_string_pretty(&values).unwrap();
            let mut parser = PullParser::new(Trickle(text.as_bytes())).unwrap();
            parser.enter().unwrap();
            let mut read = Vec::new();
            while parser.next_element().unwrap() {
                read.push(crate::json::parse(&parser.value().unwrap()).unwrap().value);
            }
            prop_assert_eq!(read, values);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(mut parser) = PullParser::new(&bytes[..])
                && parser.enter().is_ok()
            {
                while parser.next_element().unwrap_or(false) && parser.skip().is_ok() {}
            }
        }
    }
}
