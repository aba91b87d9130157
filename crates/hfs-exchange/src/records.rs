//! The records of a source, one after another, whether they stand on lines or in an array of a document.

use std::io::Read;

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::Source;
use crate::json::lines::{Line, Lines};
use crate::json::parse::parse_part;
use crate::json::salvage::{Fragment, salvage};
use crate::json::walk::{Walk, WalkError};
use crate::json::{Parsed, parse};

/// How records are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One on each line.
    Lines,
    /// The elements of the array that is the document, or that stands in it under this key.
    Array(Option<&'static str>),
}

/// What a record is read as.
pub(crate) trait Decode: Sized {
    /// Reads a text; `None` when it is not exactly one object.
    fn decode(text: &str) -> Option<Self>;
}

/// A whole record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Whole {
    /// Its fields.
    pub fields: Map<String, Value>,
    /// Its text, where the fields are not a faithful image of it.
    pub raw: Option<String>,
}

impl Decode for Whole {
    fn decode(text: &str) -> Option<Self> {
        match parse(text)? {
            Parsed { value: Value::Object(fields), raw } => Some(Self { fields, raw }),
            _ => None,
        }
    }
}

/// Reads a type of which only some fields matter.
pub(crate) struct Partly<T>(pub T);

impl<T: serde::de::DeserializeOwned> Decode for Partly<T> {
    fn decode(text: &str) -> Option<Self> {
        parse_part(text).map(Self)
    }
}

/// What was found.
pub(crate) enum Entry<'a, T> {
    /// A record and the text it was read from.
    Record(T, &'a str),
    /// Something that is none, and what is wrong with it.
    Bad(String),
}

/// Where an entry stands and how far the input has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// The line, or the record's number in an array, from 1.
    pub line: u64,
    /// The bytes read so far.
    pub bytes: u64,
}

/// Visits every entry of the source in order. Two visits of an unchanged source see the same entries, whatever
/// they are read as.
pub(crate) fn visit<T: Decode>(
    source: &Source,
    framing: Framing,
    visit: &mut Visitor<'_, T>,
) -> Result<(), ImportError> {
    let input = source.open()?;
    match framing {
        Framing::Lines => visit_lines(source, input, visit),
        Framing::Array(key) => visit_array(source, input, key, visit),
    }
}

type Visitor<'v, T> = dyn FnMut(At, Entry<'_, T>) -> Result<(), ImportError> + 'v;

fn visit_lines<T: Decode>(
    source: &Source,
    input: impl Read,
    visit: &mut Visitor<'_, T>,
) -> Result<(), ImportError> {
    let mut lines = Lines::new(input);
    let mut before = 0;
    while let Some((line, content)) = lines.next().map_err(|error| source.io(error))? {
        let at = At { line, bytes: before };
        match content {
            Line::TooLong { bytes } => {
                visit(at, Entry::Bad(format!("a line of {bytes} bytes is longer than 64 MiB")))?;
            }
            Line::Text { text, damaged } => {
                if damaged && let Some(record) = T::decode(&text) {
                    visit(at, Entry::Record(record, &text))?;
                } else {
                    visit_text(at, &text, visit)?;
                }
            }
        }
        before = lines.consumed();
    }
    Ok(())
}

fn visit_text<T: Decode>(at: At, text: &str, visit: &mut Visitor<'_, T>) -> Result<(), ImportError> {
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    if let Some(record) = T::decode(text) {
        return visit(at, Entry::Record(record, text));
    }
    for fragment in salvage(text) {
        let bad = match fragment {
            Fragment::Record(text) => {
                if let Some(record) = T::decode(text) {
                    visit(at, Entry::Record(record, text))?;
                    continue;
                }
                text
            }
            Fragment::Bad(text) => text,
        };
        visit(at, Entry::Bad(format!("no record can be read from `{}`", crate::tally::excerpt(bad))))?;
    }
    Ok(())
}

fn visit_array<T: Decode>(
    source: &Source,
    input: impl Read,
    key: Option<&str>,
    visit: &mut Visitor<'_, T>,
) -> Result<(), ImportError> {
    let mut at = At { line: 0, bytes: 0 };
    let walk_all = || -> Result<(), Stop> {
        let mut walk = Walk::new(input)?;
        walk.enter()?;
        if let Some(key) = key {
            loop {
                match walk.next_key()? {
                    Some(found) if found == key => break,
                    Some(_) => walk.skip()?,
                    None => return Ok(()),
                }
            }
            walk.enter()?;
        }
        while walk.next_element()? {
            at = At { line: at.line + 1, bytes: walk.consumed() };
            let text = walk.value()?;
            match T::decode(&text) {
                Some(record) => visit(at, Entry::Record(record, &text))?,
                None => visit(at, Entry::Bad(format!("no record: `{}`", crate::tally::excerpt(&text))))?,
            }
        }
        Ok(())
    };
    match walk_all() {
        Ok(()) => Ok(()),
        Err(Stop::Import(error)) => Err(error),
        Err(Stop::Walk(WalkError::Io(error))) => Err(source.io(error)),
        Err(Stop::Walk(WalkError::Damaged { at: byte, reason })) => {
            visit(At { line: at.line + 1, ..at }, Entry::Bad(format!("{reason} (at byte {byte})")))
        }
    }
}

/// Why a walk through a document ended early.
pub(crate) enum Stop {
    Walk(WalkError),
    Import(ImportError),
}

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self::Walk(error)
    }
}

impl From<ImportError> for Stop {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}
