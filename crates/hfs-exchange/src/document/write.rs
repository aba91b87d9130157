//! Writes a session as a document of the present version, as a stream.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Branch, ContentHash, Part, StoreError, StoreResult, Timestamp};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

use super::v2;
use crate::export::{DocumentSource, ExportError, PAGE};

/// What an export says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// When it is written.
    pub exported_at: Timestamp,
    /// The version of the hfs that writes it.
    pub hfs_version: &'a str,
}

/// Writes the session as JSON, version [`DOCUMENT_VERSION`](super::DOCUMENT_VERSION): the same session gives the
/// same bytes but for the time of the export.
///
/// Bytes of attachments that the store has lost are left out; the messages still name them.
///
/// # Errors
/// When the session cannot be read or the output cannot be written.
pub fn write_json(
    source: &dyn DocumentSource,
    stamp: Stamp<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let writer = Writer { source, stamp, failed: RefCell::new(None), hashes: RefCell::new(BTreeSet::new()) };
    let formatter = serde_json::ser::PrettyFormatter::new();
    let mut json = serde_json::Serializer::with_formatter(&mut out, formatter);
    if let Err(error) = Document(&writer).serialize(&mut json) {
        return Err(match writer.failed.take() {
            Some(error) => error.into(),
            None => std::io::Error::from(error).into(),
        });
    }
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// What the pieces of a document share while they are written.
struct Writer<'a> {
    source: &'a dyn DocumentSource,
    stamp: Stamp<'a>,
    /// Why reading the session failed; a serializer's error cannot carry it.
    failed: RefCell<Option<StoreError>>,
    /// The attachments that the messages refer to.
    hashes: RefCell<BTreeSet<ContentHash>>,
}

impl Writer<'_> {
    fn get<T, E: serde::ser::Error>(&self, result: StoreResult<T>) -> Result<T, E> {
        result.map_err(|error| {
            let told = E::custom(&error);
            self.failed.replace(Some(error));
            told
        })
    }
}

struct Document<'a>(&'a Writer<'a>);

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let writer = self.0;
        let session = writer.get(writer.source.session())?;
        let metadata = v2::Metadata {
            schema_version: v2::VERSION.into(),
            exported_at: writer.stamp.exported_at,
            hfs_version: writer.stamp.hfs_version.into(),
            session_name: session.name.clone(),
        };
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("metadata", &metadata)?;
        document.serialize_entry("session", &v2::Session::from(session))?;
        document.serialize_entry("branches", &Branches(writer))?;
        document.serialize_entry("runs", &Runs(writer))?;
        document.serialize_entry("checkpoints", &Checkpoints(writer))?;
        document.serialize_entry("attachments", &Attachments(writer))?;
        document.end()
    }
}

struct Branches<'a>(&'a Writer<'a>);

impl Serialize for Branches<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let branches = self.0.get(self.0.source.branches())?;
        let mut list = serializer.serialize_seq(Some(branches.len()))?;
        for branch in branches {
            list.serialize_element(&OneBranch(self.0, branch))?;
        }
        list.end()
    }
}

struct OneBranch<'a>(&'a Writer<'a>, Branch);

impl Serialize for OneBranch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let branch = v2::Branch::from(self.1.clone());
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("id", &branch.id)?;
        fields.serialize_entry("name", &branch.name)?;
        fields.serialize_entry("parent", &branch.parent)?;
        fields.serialize_entry("forked_at", &branch.forked_at)?;
        fields.serialize_entry("head", &branch.head)?;
        fields.serialize_entry("messages", &Messages(self.0, &self.1))?;
        fields.end()
    }
}

struct Messages<'a>(&'a Writer<'a>, &'a Branch);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(writer, branch) = self;
        let mut list = serializer.serialize_seq(None)?;
        let mut after = branch.forked_at;
        loop {
            let page = writer.get(writer.source.messages(branch.id, after, PAGE))?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for message in page {
                for part in &message.content.parts {
                    if let Part::Attachment { hash: Some(hash), .. } = part {
                        writer.hashes.borrow_mut().insert(*hash);
                    }
                }
                list.serialize_element(&v2::Message::from(message))?;
            }
        }
        list.end()
    }
}

struct Runs<'a>(&'a Writer<'a>);

impl Serialize for Runs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids = self.0.get(self.0.source.runs())?;
        let mut list = serializer.serialize_seq(Some(ids.len()))?;
        for id in ids {
            let run = self.0.get(self.0.source.run(id))?;
            list.serialize_element(&v2::Run::try_from(run).map_err(S::Error::custom)?)?;
        }
        list.end()
    }
}

struct Checkpoints<'a>(&'a Writer<'a>);

impl Serialize for Checkpoints<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checkpoints = self.0.get(self.0.source.checkpoints())?;
        let mut list = serializer.serialize_seq(Some(checkpoints.len()))?;
        for checkpoint in checkpoints {
            let state = self.0.get(self.0.source.state(checkpoint.id))?;
            let checkpoint = v2::Checkpoint::new(checkpoint, &state).map_err(S::Error::custom)?;
            list.serialize_element(&checkpoint)?;
        }
        list.end()
    }
}

struct Attachments<'a>(&'a Writer<'a>);

impl Serialize for Attachments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        let hashes = self.0.hashes.take();
        for hash in hashes {
            match self.0.source.attachment(hash) {
                Ok(bytes) => fields.serialize_entry(&hash.to_string(), &STANDARD.encode(bytes))?,
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => self.0.get(Err(error))?,
            }
        }
        fields.end()
    }
}
