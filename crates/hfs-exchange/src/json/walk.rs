//! Walks through one JSON document of any size, keeping only the value that is asked for.

use std::io::{self, Read};

use super::lines::MAX_LINE;

const CHUNK: usize = 64 << 10;

/// Why a walk cannot go on.
#[derive(Debug)]
pub(crate) enum WalkError {
    /// The input could not be read.
    Io(io::Error),
    /// The document is damaged at this byte.
    Damaged {
        /// The offset from the beginning.
        at: u64,
        /// What is wrong there.
        reason: &'static str,
    },
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) type WalkResult<T> = Result<T, WalkError>;

/// A place in a document. Only structure is checked on the way; each value's own text is for the parser.
pub(crate) struct Walk<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    dropped: u64,
    ended: bool,
    /// Whether the next key or element is the first of its container.
    first: bool,
}

impl<R: Read> Walk<R> {
    /// At the beginning of a document.
    ///
    /// # Errors
    /// As the input has it.
    pub(crate) fn new(input: R) -> WalkResult<Self> {
        let mut walk = Self { input, buffer: Vec::new(), at: 0, dropped: 0, ended: false, first: true };
        while walk.buffer.len() < 3 && !walk.ended {
            walk.fill()?;
        }
        if walk.buffer.starts_with("\u{feff}".as_bytes()) {
            walk.at = 3;
        }
        Ok(walk)
    }

    /// How many bytes lie behind.
    pub(crate) fn consumed(&self) -> u64 {
        self.dropped + self.at as u64
    }

    /// The first byte of what comes next, white space aside; `None` at the end.
    pub(crate) fn peek(&mut self) -> WalkResult<Option<u8>> {
        loop {
            match self.buffer.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(Some(byte)),
                None if self.ended => return Ok(None),
                None => self.fill()?,
            }
        }
    }

    /// Steps into the object or array that begins here.
    pub(crate) fn enter(&mut self) -> WalkResult<()> {
        match self.peek()? {
            Some(b'{' | b'[') => {
                self.at += 1;
                self.first = true;
                Ok(())
            }
            _ => Err(self.damaged("expected an object or an array")),
        }
    }

    /// Inside an object: the next key, with its value ahead; `None` when the object has been left.
    pub(crate) fn next_key(&mut self) -> WalkResult<Option<String>> {
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

    /// Inside an array: whether another element lies ahead; `false` when the array has been left.
    pub(crate) fn next_element(&mut self) -> WalkResult<bool> {
        self.step(b']')
    }

    /// Goes behind the comma to the next item, or behind `close`.
    fn step(&mut self, close: u8) -> WalkResult<bool> {
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

    /// The text of the value that lies ahead.
    pub(crate) fn value(&mut self) -> WalkResult<String> {
        self.value_up_to(MAX_LINE)
    }

    /// The text of the value that lies ahead, of at most so many bytes.
    pub(crate) fn value_up_to(&mut self, max: usize) -> WalkResult<String> {
        let length = self.find_end(Some(max))?;
        let bytes = self.buffer.get(self.at..self.at + length).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.at += length;
        self.first = false;
        Ok(text)
    }

    /// Goes behind the value that lies ahead, whatever its size.
    pub(crate) fn skip(&mut self) -> WalkResult<()> {
        let length = self.find_end(None)?;
        self.at += length;
        self.first = false;
        Ok(())
    }

    /// How many bytes from here the value ahead ends: at most `keep`; without a limit, what has been looked at
    /// is not kept.
    fn find_end(&mut self, keep: Option<usize>) -> WalkResult<usize> {
        let first = self.peek()?.ok_or_else(|| self.damaged("the document ends too early"))?;
        let mut end = 0_usize;
        let mut depth = 0_usize;
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
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth == 0 => return Ok(end - 1),
                        b'}' | b']' => depth -= 1,
                        b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Ok(end - 1),
                        _ => {}
                    }
                }
                if depth == 0 && !in_string && matches!(first, b'"' | b'{' | b'[') {
                    return Ok(end);
                }
            }
            if self.ended {
                let whole = depth == 0 && !in_string;
                return if whole { Ok(end) } else { Err(self.damaged("the document ends inside a value")) };
            }
            if keep.is_some_and(|max| end > max) {
                return Err(self.damaged("a single value is too large"));
            }
            if keep.is_none() {
                self.at += end;
                end = 0;
            }
            self.fill()?;
        }
    }

    fn damaged(&self, reason: &'static str) -> WalkError {
        WalkError::Damaged { at: self.consumed(), reason }
    }

    fn fill(&mut self) -> WalkResult<()> {
        if self.at >= CHUNK.max(self.buffer.len() / 2) {
            self.buffer.drain(..self.at);
            self.dropped += self.at as u64;
            self.at = 0;
        }
        let old = self.buffer.len();
        // Doubling keeps the copying linear when a single value is large.
        self.buffer.resize(old + CHUNK.max(old - self.at), 0);
        let read = loop {
            match self.input.read(self.buffer.get_mut(old..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives its bytes a few at a time.
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
    fn a_document_is_walked_without_being_held() {
        let text = "\u{feff} { \"a\\\"b\" : [1, \"x]\" ,{\"c\":[]}], \"skip\": {\"d\":[1,2]}, \"n\": null } ";
        let mut walk = Walk::new(Trickle(text.as_bytes())).unwrap();
        walk.enter().unwrap();
        assert_eq!(walk.next_key().unwrap().as_deref(), Some("a\"b"));
        walk.enter().unwrap();
        let mut items = Vec::new();
        while walk.next_element().unwrap() {
            items.push(walk.value().unwrap());
        }
        assert_eq!(items, ["1", "\"x]\"", "{\"c\":[]}"]);
        assert_eq!(walk.next_key().unwrap().as_deref(), Some("skip"));
        walk.skip().unwrap();
        assert_eq!(walk.next_key().unwrap().as_deref(), Some("n"));
        assert_eq!(walk.value().unwrap(), "null");
        assert_eq!(walk.next_key().unwrap(), None);
        assert_eq!(walk.peek().unwrap(), None);
        assert_eq!(walk.consumed(), text.len() as u64);
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let mut walk = Walk::new(&b"[1, [2, 3"[..]).unwrap();
        walk.enter().unwrap();
        assert!(walk.next_element().unwrap());
        walk.skip().unwrap();
        assert!(walk.next_element().unwrap());
        assert!(matches!(walk.value(), Err(WalkError::Damaged { at: 4, .. })));
    }

    proptest! {
        #[test]
        fn every_element_comes_as_it_was_written(
            values in prop::collection::vec(crate::json::parse::tests::any_value(), 0..8),
        ) {
            let text = serde_json::to_string_pretty(&values).unwrap();
            let mut walk = Walk::new(Trickle(text.as_bytes())).unwrap();
            walk.enter().unwrap();
            let mut read = Vec::new();
            while walk.next_element().unwrap() {
                read.push(crate::json::parse(&walk.value().unwrap()).unwrap().value);
            }
            prop_assert_eq!(read, values);
        }

        #[test]
        fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(mut walk) = Walk::new(&bytes[..])
                && walk.enter().is_ok()
            {
                while walk.next_element().unwrap_or(false) && walk.skip().is_ok() {}
            }
        }
    }
}
