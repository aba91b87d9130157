//! The hfs document: a whole session as JSON, and its versions.
//!
//! Each version has a module with its wire types, which never change after a release. Each old version has a
//! function that migrates a document to the next version, so a document of any version can be migrated step
//! by step. Only the current version is written. The serializer reads the messages from the
//! [`DocumentSource`] in pages, so the document is never in memory as a whole.

pub(crate) mod v0;
pub(crate) mod v1;
pub(crate) mod v2;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Branch, ContentHash, Part, StoreError, StoreResult, Timestamp};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::export::{DocumentSource, ExportError, PAGE};

pub use v2::document_schema;

/// The document version that is written.
pub const DOCUMENT_VERSION: &str = v2::VERSION;

/// Metadata that is written into an export.
#[derive(Debug, Clone, Copy)]
pub struct ExportMetadata<'a> {
    /// Time of the export.
    pub exported_at: Timestamp,
    /// Version of hfs that writes the export.
    pub hfs_version: &'a str,
}

/// Writes the session as JSON, version [`DOCUMENT_VERSION`]. Apart from the time of the export, the same
/// session always gives the same bytes.
///
/// An attachment whose bytes are missing in the store is omitted; the message still refers to its hash.
///
/// # Errors
/// Returns any error of reading the session or of writing the output.
pub fn write_json(
    source: &dyn DocumentSource,
    metadata: ExportMetadata<'_>,
    mut out: impl Write,
) -> Result<(), ExportError> {
    let writer =
        Writer { source, metadata, store_error: RefCell::new(None), hashes: RefCell::new(BTreeSet::new()) };
    let formatter = serde_json::ser::PrettyFormatter::new();
    let mut json = serde_json::Serializer::with_formatter(&mut out, formatter);
    if let Err(error) = WireDocument(&writer).serialize(&mut json) {
        return Err(match writer.store_error.take() {
            Some(error) => error.into(),
            None => std::io::Error::from(error).into(),
        });
    }
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// State that the parts of a document share while they are serialized.
struct Writer<'a> {
    source: &'a dyn DocumentSource,
    metadata: ExportMetadata<'a>,
    /// The store's error, if reading the session failed.
    store_error: RefCell<Option<StoreError>>,
    /// Attachments that the messages refer to. [`MessageList`] collects the hashes.
    /// [`AttachmentMap`] is serialized later and takes them.
    hashes: RefCell<BTreeSet<ContentHash>>,
}

impl Writer<'_> {
    /// Saves a store error for [`write_json`], because `serialize` can return only the serializer's error
    /// type.
    fn save_error<T, E: serde::ser::Error>(&self, result: StoreResult<T>) -> Result<T, E> {
        result.map_err(|error| {
            let custom = E::custom(&error);
            self.store_error.replace(Some(error));
            custom
        })
    }
}

struct WireDocument<'a>(&'a Writer<'a>);

impl Serialize for WireDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let writer = self.0;
        let session = writer.save_error(writer.source.session())?;
        let metadata = v2::Metadata {
            schema_version: v2::VERSION.into(),
            exported_at: writer.metadata.exported_at,
            hfs_version: writer.metadata.hfs_version.into(),
            session_name: session.name.clone(),
        };
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("metadata", &metadata)?;
        document.serialize_entry("session", &v2::Session::from(session))?;
        document.serialize_entry("branches", &BranchList(writer))?;
        document.serialize_entry("runs", &RunList(writer))?;
        document.serialize_entry("checkpoints", &CheckpointList(writer))?;
        document.serialize_entry("attachments", &AttachmentMap(writer))?;
        document.end()
    }
}

struct BranchList<'a>(&'a Writer<'a>);

impl Serialize for BranchList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let branches = self.0.save_error(self.0.source.branches())?;
        let mut list = serializer.serialize_seq(Some(branches.len()))?;
        for branch in branches {
            list.serialize_element(&BranchEntry(self.0, branch))?;
        }
        list.end()
    }
}

struct BranchEntry<'a>(&'a Writer<'a>, Branch);

impl Serialize for BranchEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let branch = v2::Branch::from(self.1.clone());
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("id", &branch.id)?;
        fields.serialize_entry("name", &branch.name)?;
        fields.serialize_entry("parent", &branch.parent)?;
        fields.serialize_entry("forked_at", &branch.forked_at)?;
        fields.serialize_entry("head", &branch.head)?;
        if branch.undone {
            fields.serialize_entry("undone", &true)?;
        }
        fields.serialize_entry("messages", &MessageList(self.0, &self.1))?;
        fields.end()
    }
}

struct MessageList<'a>(&'a Writer<'a>, &'a Branch);

impl Serialize for MessageList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(writer, branch) = self;
        let mut list = serializer.serialize_seq(None)?;
        let mut after = branch.forked_at;
        loop {
            let page = writer.save_error(writer.source.messages(branch.id, after, PAGE))?;
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

struct RunList<'a>(&'a Writer<'a>);

impl Serialize for RunList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ids = self.0.save_error(self.0.source.runs())?;
        let mut list = serializer.serialize_seq(Some(ids.len()))?;
        for id in ids {
            let run = self.0.save_error(self.0.source.run(id))?;
            list.serialize_element(&v2::Run::try_from(run).map_err(S::Error::custom)?)?;
        }
        list.end()
    }
}

struct CheckpointList<'a>(&'a Writer<'a>);

impl Serialize for CheckpointList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checkpoints = self.0.save_error(self.0.source.checkpoints())?;
        let mut list = serializer.serialize_seq(Some(checkpoints.len()))?;
        for checkpoint in checkpoints {
            let state = self.0.save_error(self.0.source.state(checkpoint.id))?;
            let checkpoint = v2::Checkpoint::new(checkpoint, &state).map_err(S::Error::custom)?;
            list.serialize_element(&checkpoint)?;
        }
        list.end()
    }
}

struct AttachmentMap<'a>(&'a Writer<'a>);

impl Serialize for AttachmentMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        let hashes = self.0.hashes.take();
        for hash in hashes {
            match self.0.source.attachment(hash) {
                Ok(bytes) => fields.serialize_entry(&hash.to_string(), &STANDARD.encode(bytes))?,
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => self.0.save_error(Err(error))?,
            }
        }
        fields.end()
    }
}
