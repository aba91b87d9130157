//! The records of a source, one after another, whether they stand on lines or in an array of a document.

mod ahead;

use std::io::Read;

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::Source;
use crate::json::lines::Line;
use crate::json::pieces::{Piece, Pieces};
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

/// What was found.
pub(crate) enum Entry<T> {
    /// A record, and how many bytes of text it was read from.
    Record(T, usize),
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
/// they are read as. Lines are decoded by other threads, while those before them are visited.
pub(crate) fn visit<T: Decode + Send>(
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

type Visitor<'v, T> = dyn FnMut(At, Entry<T>) -> Result<(), ImportError> + 'v;

fn visit_lines<T: Decode + Send>(
    source: &Source,
    input: impl Read + Send,
    visit: &mut Visitor<'_, T>,
) -> Result<(), ImportError> {
    let io = |error| source.io(error);
    let mut pieces = Pieces::new(input);
    let Some(first) = pieces.next().map_err(io)? else { return Ok(()) };
    // What fits into one piece is not worth a thread.
    decode_lines::<T>(&first, &mut |at, entry| visit(at, entry))?;
    drop(first);
    if pieces.is_at_end() {
        return Ok(());
    }
    let decode = |piece: &Piece| {
        let mut entries = Vec::with_capacity(piece.count());
        let collected = decode_lines::<T>(piece, &mut |at, entry| {
            entries.push((at, entry));
            Ok(())
        });
        collected.map(|()| entries)
    };
    ahead::each(pieces, decode, |entries| {
        entries.map_err(io)??.into_iter().try_for_each(|(at, entry)| visit(at, entry))
    })
}

fn decode_lines<T: Decode>(piece: &Piece, found: &mut Visitor<'_, T>) -> Result<(), ImportError> {
    for (line, bytes, content) in piece.lines() {
        let at = At { line, bytes };
        match content {
            Line::TooLong { bytes } => {
                found(at, Entry::Bad(format!("a line of {bytes} bytes is longer than 64 MiB")))?;
            }
            Line::Text(text) => decode_text(at, &text, found)?,
        }
    }
    Ok(())
}

fn decode_text<T: Decode>(at: At, text: &str, found: &mut Visitor<'_, T>) -> Result<(), ImportError> {
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    if let Some(record) = T::decode(text) {
        return found(at, Entry::Record(record, text.len()));
    }
    for fragment in salvage(text) {
        let bad = match fragment {
            Fragment::Record(text) => {
                if let Some(record) = T::decode(text) {
                    found(at, Entry::Record(record, text.len()))?;
                    continue;
                }
                text
            }
            Fragment::Bad(text) => text,
        };
        found(at, Entry::Bad(format!("no record can be read from `{}`", crate::tally::excerpt(bad))))?;
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
                Some(record) => visit(at, Entry::Record(record, text.len()))?,
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
