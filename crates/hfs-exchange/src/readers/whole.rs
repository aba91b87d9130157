//! Documents of one session that are held whole before they are told, because later parts say what becomes of
//! earlier ones.

use hfs_core::{ImportError, SessionSink};
use serde_json::{Map, Value};

use super::{go_on, hfs::stopped};
use crate::Source;
use crate::json::parse;
use crate::json::walk::{Walk, WalkError};
use crate::records::Stop;
use crate::tally::{Tally, excerpt};

/// So many bytes are read of such a document; nobody has said so much in one session.
const MAX_BYTES: u64 = 256 << 20;

/// A document: its fields, and the objects in the list that makes it up.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub fields: Map<String, Value>,
    pub list: Vec<Map<String, Value>>,
    /// What could not be read.
    lost: Vec<String>,
}

impl Whole {
    /// Reads a document whose list stands under `key`. Of one that breaks off, what stands before is kept.
    pub(crate) fn read(source: &Source, key: &str, sink: &mut dyn SessionSink) -> Result<Self, ImportError> {
        let mut whole = Self::default();
        match whole.fill(source, key, sink) {
            Err(Stop::Walk(WalkError::Damaged { at, reason })) if !whole.list.is_empty() => {
                whole.lost.push(format!("the document cannot be read any further: {reason} (at byte {at})"));
            }
            filled => filled.map_err(|stop| stopped(source, stop))?,
        }
        Ok(whole)
    }

    /// Counts what could not be read.
    pub(crate) fn count_lost(&mut self, tally: &mut Tally) {
        self.lost.drain(..).for_each(|why| tally.dropped(None, why));
    }

    fn fill(&mut self, source: &Source, list: &str, sink: &mut dyn SessionSink) -> Result<(), Stop> {
        let mut walk = Walk::new(source.open()?)?;
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if key != list || walk.peek()? != Some(b'[') {
                if let Some(parsed) = parse(&walk.value()?) {
                    self.fields.insert(key, parsed.value);
                }
                continue;
            }
            walk.enter()?;
            while walk.next_element()? {
                go_on(source, sink, walk.consumed())?;
                if walk.consumed() > MAX_BYTES {
                    let reason = "it is too large to be held whole";
                    return Err(WalkError::Damaged { at: walk.consumed(), reason }.into());
                }
                let text = walk.value()?;
                match parse(&text).map(|parsed| parsed.value) {
                    Some(Value::Object(fields)) => self.list.push(fields),
                    _ => self.lost.push(format!("no message: `{}`", excerpt(&text))),
                }
            }
        }
        Ok(())
    }
}
