//! Our own documents, of every version.

mod present;

use hfs_core::{ImportError, Origin, SessionSink};
use serde_json::{Map, Value};

use crate::detect::Head;
use crate::document::{v0, v1, v2};
use crate::json::parse;
use crate::json::walk::{Walk, WalkError};
use crate::records::Stop;
use crate::tally::{Tally, excerpt};
use crate::{Format, Source};

const NAME: &str = "hfs";
/// The fields of a message of the oldest form; one with others is another program's.
const OLD_FIELDS: [&str; 3] = ["role", "content", "created_at"];

pub(crate) struct Hfs;

impl super::Reader for Hfs {
    fn format(&self) -> Format {
        Format::Hfs
    }

    fn recognizes(&self, head: &Head) -> bool {
        let Some(first) = head.first() else { return false };
        if let Some(metadata) = first.get("metadata") {
            return !head.is_array() && metadata.get("schema_version").is_some();
        }
        let old = |message: &Map<String, Value>| {
            message.get("role").is_some_and(Value::is_string)
                && message.contains_key("content")
                && message.keys().all(|key| OLD_FIELDS.contains(&key.as_str()))
        };
        let only_one = head.objects().len() <= 1 || head.is_array();
        match first.get("messages") {
            Some(Value::Array(list)) if !head.is_array() => {
                only_one && list.iter().filter_map(Value::as_object).next().is_some_and(old)
            }
            _ => head.is_array() && old(first),
        }
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        match version(source)? {
            None => {
                let mut tally = Tally::default();
                let document = read_v0(source, &mut tally)?;
                migrated(source, document.migrate(), tally, sink)
            }
            Some((1, 0)) => {
                let mut tally = Tally::default();
                let document = read_v1(source, &mut tally)?;
                tally.warn(None, format!("migrated from document version {}", v1::VERSION));
                migrated(source, document, tally, sink)
            }
            Some((2, 0)) => present::read(source, sink),
            Some((major, minor)) if (major, minor) > (2, 0) => Err(ImportError::Newer {
                path: source.name(),
                found: format!("{major}.{minor}"),
                supported: v2::VERSION.into(),
            }),
            Some((major, minor)) => {
                Err(source.damaged(format!("there has never been a document version {major}.{minor}")))
            }
        }
    }
}

/// The error for a walk that cannot go on.
pub(crate) fn stopped(source: &Source, stop: Stop) -> ImportError {
    match stop {
        Stop::Import(error) => error,
        Stop::Walk(WalkError::Io(error)) => source.io(error),
        Stop::Walk(WalkError::Damaged { at, reason }) => source.damaged(format!("{reason} (at byte {at})")),
    }
}

/// The document's version, checked before anything else is read; `None` for one without.
fn version(source: &Source) -> Result<Option<(u64, u64)>, ImportError> {
    let find = || -> Result<Option<Value>, Stop> {
        let mut walk = Walk::new(source.open()?)?;
        if walk.peek()? == Some(b'[') {
            return Ok(None);
        }
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if key == "metadata" {
                return Ok(parse(&walk.value()?).map(|parsed| parsed.value));
            }
            walk.skip()?;
        }
        Ok(None)
    };
    let metadata = match find() {
        Ok(metadata) => metadata,
        // A document that breaks off before it says its version has none.
        Err(Stop::Walk(WalkError::Damaged { .. })) => None,
        Err(stop) => return Err(stopped(source, stop)),
    };
    let Some(version) = metadata.as_ref().and_then(|metadata| metadata.get("schema_version")) else {
        return Ok(None);
    };
    let text = version.as_str().unwrap_or_default();
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(Some((major, minor))),
        _ => Err(source.damaged(format!("its schema_version {version} is no version"))),
    }
}

/// Reads the elements of the array ahead into a list, those that cannot be read into the tally.
fn list<T: serde::de::DeserializeOwned, R: std::io::Read>(
    walk: &mut Walk<R>,
    items: &mut Vec<T>,
    tally: &mut Tally,
    what: &str,
) -> Result<(), Stop> {
    if walk.peek()? != Some(b'[') {
        walk.skip()?;
        return Ok(());
    }
    walk.enter()?;
    let mut number = 0;
    while walk.next_element()? {
        number += 1;
        let text = walk.value()?;
        match parse(&text).and_then(|parsed| serde_json::from_value(parsed.value).ok()) {
            Some(item) => {
                tally.mapped();
                items.push(item);
            }
            None => tally.dropped(Some(number), format!("no {what}: `{}`", excerpt(&text))),
        }
    }
    Ok(())
}

/// What a walk ended with; of a document that is damaged further on, what stands before counts.
fn as_far_as_it_is_whole(
    source: &Source,
    walked: Result<(), Stop>,
    messages: usize,
    tally: &mut Tally,
) -> Result<(), ImportError> {
    match walked {
        Err(Stop::Walk(WalkError::Damaged { at, reason })) if messages > 0 => {
            let why = format!("the document cannot be read any further: {reason} (at byte {at})");
            tally.dropped(None, why);
            Ok(())
        }
        walked => walked.map_err(|stop| stopped(source, stop)),
    }
}

fn read_v0(source: &Source, tally: &mut Tally) -> Result<v0::Document, ImportError> {
    let mut document = v0::Document::default();
    let mut walk_all = || -> Result<(), Stop> {
        let mut walk = Walk::new(source.open()?)?;
        if walk.peek()? == Some(b'[') {
            list(&mut walk, &mut document.messages, tally, "message")?;
            return Ok(());
        }
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if key == "messages" {
                list(&mut walk, &mut document.messages, tally, "message")?;
            } else if let Some(parsed) = parse(&walk.value()?) {
                document.rest.insert(key, parsed.value);
            }
        }
        Ok(())
    };
    let walked = walk_all();
    as_far_as_it_is_whole(source, walked, document.messages.len(), tally)?;
    Ok(document)
}

fn read_v1(source: &Source, tally: &mut Tally) -> Result<v1::Document, ImportError> {
    let mut document = v1::Document::default();
    let mut walk_all = || -> Result<(), Stop> {
        let mut walk = Walk::new(source.open()?)?;
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            match key.as_str() {
                "messages" => list(&mut walk, &mut document.messages, tally, "message")?,
                "checkpoints" => list(&mut walk, &mut document.checkpoints, tally, "checkpoint")?,
                _ => {
                    let value = parse(&walk.value()?).map_or(Value::Null, |parsed| parsed.value);
                    match key.as_str() {
                        "metadata" => document.metadata = serde_json::from_value(value).ok(),
                        "run_snapshot" => document.run_snapshot = Some(value),
                        _ => {
                            document.rest.insert(key, value);
                        }
                    }
                }
            }
        }
        Ok(())
    };
    let walked = walk_all();
    as_far_as_it_is_whole(source, walked, document.messages.len(), tally)?;
    Ok(document)
}

/// What tells an old document from others, and stays when messages are added: its name and its beginning.
fn seed(document: &v1::Document) -> String {
    let mut hasher = blake3::Hasher::new();
    let name = document.metadata.as_ref().and_then(|metadata| metadata.session_name.as_deref());
    hasher.update(name.unwrap_or_default().as_bytes());
    for message in document.messages.iter().take(2) {
        hasher.update(message.role.as_bytes());
        hasher.update(message.content.to_string().as_bytes());
        hasher.update(message.created_at.as_ref().map(Value::to_string).unwrap_or_default().as_bytes());
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// The chain's last link: an old document, made one of the present version, to the sink.
fn migrated(
    source: &Source,
    document: v1::Document,
    tally: Tally,
    sink: &mut dyn SessionSink,
) -> Result<(), ImportError> {
    let seed = seed(&document);
    let id = source.stem().map_or_else(|| seed.clone(), |stem| format!("{stem}/{seed}"));
    let path = source.path().map(|path| path.display().to_string());
    let origin = Origin { format: NAME.into(), id: id.clone(), path };
    present::push(source, document.migrate(&id), origin, tally, sink)
}
