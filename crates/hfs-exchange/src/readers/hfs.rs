//! hfs documents of every version.
//!
//! Documents of old versions are small. They are read into memory, migrated step by step to the current
//! version, and then sent. A document of the current version may be large, so it is read as a
//! stream.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    Attachment, BranchId, ContentHash, ForeignBranch, ImportError, ImportEvent, MessageDraft, Origin, Part,
    Seq,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::detect::FormatProbe;
use crate::document::{v0, v1, v2};
use crate::json::parse;
use crate::json::pull::{PullError, PullParser};
use crate::readers::{Output, ReportBuilder, excerpt};
use crate::records::{StreamError, damage_message};
use crate::{Format, Source};

const NAME: &str = "hfs";
/// The fields of a message in the oldest version. A message with other fields comes from another program.
const V0_FIELDS: [&str; 3] = ["role", "content", "created_at"];
/// The roles of messages in the oldest version.
const V0_ROLES: [&str; 3] = ["user", "assistant", "system"];

pub(crate) struct Hfs;

impl super::Reader for Hfs {
    fn format(&self) -> Format {
        Format::Hfs
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        let Some(first) = probe.first_object() else { return false };
        if let Some(metadata) = first.get("metadata") {
            return !probe.is_array() && metadata.get("schema_version").is_some();
        }
        // Several objects on lines of their own are a dataset, not a document.
        let only_one = probe.records().len() <= 1 || probe.is_array();
        match first.get("messages") {
            // A request to the API of a model names it.
            Some(Value::Array(list)) if !probe.is_array() => {
                only_one && !first.contains_key("model") && are_v0_messages(list)
            }
            // An array without times is more likely one of the API of a model.
            _ => probe.is_array() && are_v0_messages(probe.elements()) && have_times(probe.elements()),
        }
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        match version(source)? {
            None => {
                let mut report = ReportBuilder::default();
                let document = read_v0(source, &mut report)?;
                send_migrated(source, document.migrate(), report, out)
            }
            Some((1, 0)) => {
                let mut report = ReportBuilder::default();
                let document = read_v1(source, &mut report)?;
                report.warn(None, format!("migrated from document version {}", v1::VERSION));
                send_migrated(source, document, report, out)
            }
            Some((2, 0)) => read_current(source, out),
            Some((major, minor)) if (major, minor) > (2, 0) => Err(ImportError::Newer {
                path: source.name(),
                found: format!("{major}.{minor}"),
                supported: v2::VERSION.into(),
            }),
            Some((major, minor)) => {
                Err(source.damaged(format!("there is no document version {major}.{minor}")))
            }
        }
    }
}

/// Whether these are the messages of a document of the oldest version. Messages for the API of a model have other fields,
/// roles, or content that is not text; the first message alone rarely shows the difference.
fn are_v0_messages(list: &[Value]) -> bool {
    let is_v0_message = |message: &Map<String, Value>| {
        message.get("role").and_then(Value::as_str).is_some_and(|role| V0_ROLES.contains(&role))
            && message.get("content").is_some_and(Value::is_string)
            && message.keys().all(|key| V0_FIELDS.contains(&key.as_str()))
    };
    let mut messages = list.iter().filter_map(Value::as_object).peekable();
    messages.peek().is_some() && messages.all(is_v0_message)
}

fn have_times(messages: &[Value]) -> bool {
    messages.iter().any(|message| message.get("created_at").is_some())
}

/// The document's version, which is checked before anything else is read; `None` if it has none.
fn version(source: &Source) -> Result<Option<(u64, u64)>, ImportError> {
    let find = || -> Result<Option<Value>, StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        if parser.peek()? == Some(b'[') {
            return Ok(None);
        }
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key == "metadata" {
                return Ok(parse(&parser.value()?).map(|parsed| parsed.value));
            }
            parser.skip()?;
        }
        Ok(None)
    };
    let metadata = match find() {
        Ok(metadata) => metadata,
        // A document that is truncated before its version is treated as a document without a version.
        Err(StreamError::Json(PullError::Damaged { .. })) => None,
        Err(error) => return Err(error.into_import_error(source)),
    };
    let Some(version) = metadata.as_ref().and_then(|metadata| metadata.get("schema_version")) else {
        return Ok(None);
    };
    let text = version.as_str().unwrap_or_default();
    let mut numbers = text.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(Some((major, minor))),
        _ => Err(source.damaged(format!("its schema_version {version} is not a valid version"))),
    }
}

/// Appends the elements of the next array to `items`. Elements that cannot be read are counted as dropped.
fn read_list<T: DeserializeOwned, R: Read>(
    parser: &mut PullParser<R>,
    items: &mut Vec<T>,
    report: &mut ReportBuilder,
    kind: &str,
) -> Result<(), StreamError> {
    if parser.peek()? != Some(b'[') {
        parser.skip()?;
        return Ok(());
    }
    parser.enter()?;
    let mut number = 0;
    while parser.next_element()? {
        number += 1;
        let text = parser.value()?;
        match parse(&text).and_then(|parsed| serde_json::from_value(parsed.value).ok()) {
            Some(item) => {
                report.mapped();
                items.push(item);
            }
            None => report.dropped(Some(number), format!("unreadable {kind}: `{}`", excerpt(&text))),
        }
    }
    Ok(())
}

/// Turns the error for a damaged document into a warning if messages were read before the damage.
fn accept_partial(
    source: &Source,
    outcome: Result<(), StreamError>,
    messages: usize,
    report: &mut ReportBuilder,
) -> Result<(), ImportError> {
    match outcome {
        Err(StreamError::Json(PullError::Damaged { at, reason })) if messages > 0 => {
            report.dropped(None, damage_message(reason, at));
            Ok(())
        }
        outcome => outcome.map_err(|error| error.into_import_error(source)),
    }
}

fn read_v0(source: &Source, report: &mut ReportBuilder) -> Result<v0::Document, ImportError> {
    let mut document = v0::Document::default();
    let mut parse_all = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        if parser.peek()? == Some(b'[') {
            read_list(&mut parser, &mut document.messages, report, "message")?;
            return Ok(parser.end()?);
        }
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key == "messages" {
                read_list(&mut parser, &mut document.messages, report, "message")?;
            } else if let Some(parsed) = parse(&parser.value()?) {
                document.rest.insert(key, parsed.value);
            }
        }
        Ok(parser.end()?)
    };
    let outcome = parse_all();
    accept_partial(source, outcome, document.messages.len(), report)?;
    Ok(document)
}

fn read_v1(source: &Source, report: &mut ReportBuilder) -> Result<v1::Document, ImportError> {
    let mut document = v1::Document::default();
    let mut parse_all = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            match key.as_str() {
                "messages" => read_list(&mut parser, &mut document.messages, report, "message")?,
                "checkpoints" => read_list(&mut parser, &mut document.checkpoints, report, "checkpoint")?,
                _ => {
                    let value = parse(&parser.value()?).map_or(Value::Null, |parsed| parsed.value);
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
        Ok(parser.end()?)
    };
    let outcome = parse_all();
    accept_partial(source, outcome, document.messages.len(), report)?;
    Ok(document)
}

/// Identifies a document of an old version by its name and its first messages, which stay the same when
/// messages are added.
fn fingerprint(document: &v1::Document) -> String {
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

/// Performs the last migration, to the current version, and sends the document.
fn send_migrated(
    source: &Source,
    document: v1::Document,
    report: ReportBuilder,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let fingerprint = fingerprint(&document);
    let id = source.stem().map_or_else(|| fingerprint.clone(), |stem| format!("{stem}/{fingerprint}"));
    let path = source.path().map(|path| path.display().to_string());
    let origin = Origin { format: NAME.into(), id: id.clone(), path };
    send_document(source, document.migrate(&id), origin, report, out)
}

/// Largest attachment that is read, in bytes of base64.
const MAX_ATTACHMENT: usize = 1 << 30;

/// Reads a document of the current version.
fn read_current(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut header = DocumentHeader::default();
    match header.find(source) {
        // The part before the damage is imported; the second pass reports the damage.
        Ok(()) | Err(StreamError::Json(PullError::Damaged { .. })) => {}
        Err(error) => return Err(error.into_import_error(source)),
    }
    let Some(session) = header.session else {
        return Err(source.damaged("it contains no session"));
    };
    let path = source.path().map(|path| path.display().to_string());
    let origin = Origin { format: NAME.into(), id: session.id.to_string(), path };
    let current = session.current_branch;
    let mut foreign = session.into_foreign(origin);
    foreign.main_branch = header.main.map(|branch| (branch.id, branch.name));
    let mut import = DocumentImport::new(source, out.reborrow(), ReportBuilder::default());
    if !import.out.session(foreign)? {
        return Ok(());
    }
    import.import_content(header.attachments).map_err(|error| error.into_import_error(source))?;
    import.end(current)
}

/// Sends a migrated document.
fn send_document(
    source: &Source,
    document: v2::Document,
    origin: Origin,
    report: ReportBuilder,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let current = document.session.current_branch;
    let mut foreign = document.session.into_foreign(origin);
    let main = document.branches.first().map(|main| (main.branch.id, main.branch.name.clone()));
    foreign.main_branch = main;
    // The records were counted when they were read.
    let mut import = DocumentImport::new(source, out.reborrow(), report);
    import.counts_records = false;
    if !import.out.session(foreign)? {
        return Ok(());
    }
    for branch in document.branches {
        import.branch(&branch.branch)?;
        for message in branch.messages {
            import.message(message)?;
        }
    }
    for run in document.runs {
        import.run(run)?;
    }
    for checkpoint in document.checkpoints {
        import.checkpoint(checkpoint)?;
    }
    import.end(current)
}

/// The fields that are needed before the first message is sent.
#[derive(Default)]
struct DocumentHeader {
    session: Option<v2::Session>,
    main: Option<v2::Branch>,
    attachments: bool,
}

impl DocumentHeader {
    fn find(&mut self, source: &Source) -> Result<(), StreamError> {
        let mut parser = PullParser::new(source.open()?)?;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            match key.as_str() {
                "session" => self.session = from_text(&parser.value()?),
                "branches" => {
                    parser.enter()?;
                    while parser.next_element()? {
                        if self.main.is_some() {
                            parser.skip()?;
                        } else {
                            self.find_main(&mut parser)?;
                        }
                    }
                }
                "attachments" => {
                    self.attachments = true;
                    parser.skip()?;
                }
                _ => parser.skip()?,
            }
        }
        Ok(())
    }

    fn find_main(&mut self, parser: &mut PullParser<Box<dyn Read + Send + '_>>) -> Result<(), StreamError> {
        let mut header = Map::new();
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key == "messages" {
                // hfs writes a branch's own fields before its messages, so they are complete here. If the
                // document is damaged in the messages, the branch is known nevertheless.
                self.main = self.main.take().or_else(|| serde_json::from_value(header.clone().into()).ok());
                parser.skip()?;
            } else if let Some(parsed) = parse(&parser.value()?) {
                header.insert(key, parsed.value);
            }
        }
        self.main = serde_json::from_value(header.into()).ok();
        Ok(())
    }
}

fn from_text<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(parse(text)?.value).ok()
}

/// Sends the session of one document.
struct DocumentImport<'a> {
    source: &'a Source,
    out: Output<'a>,
    report: ReportBuilder,
    /// `false` for a migrated document, whose records were counted when it was read.
    counts_records: bool,
    /// Key and head of each branch.
    branches: HashMap<BranchId, (usize, Seq)>,
    /// Key and id of the branch to which messages are added.
    current_key: usize,
    current_id: Option<BranchId>,
    /// Attachments whose bytes are in the document.
    attached: HashSet<ContentHash>,
    /// Whether damage has been reported.
    damage_reported: bool,
}

impl<'a> DocumentImport<'a> {
    fn new(source: &'a Source, out: Output<'a>, report: ReportBuilder) -> Self {
        Self {
            source,
            out,
            report,
            counts_records: true,
            branches: HashMap::new(),
            current_key: 0,
            current_id: None,
            attached: HashSet::new(),
            damage_reported: false,
        }
    }

    fn count_mapped(&mut self) {
        if self.counts_records {
            self.report.mapped();
        }
    }

    fn report_dropped(&mut self, why: String) {
        if self.counts_records {
            self.report.dropped(None, why);
        } else {
            self.report.warn(None, why);
        }
    }

    /// Reads the document again, up to three times: first for the attachments, because messages refer to
    /// them, then for the branches, and then for the runs and checkpoints, because they refer to branches.
    fn import_content(&mut self, attachments: bool) -> Result<(), StreamError> {
        if attachments {
            self.for_each_intact_field(&mut |import, key, parser| {
                if key != "attachments" {
                    return Ok(false);
                }
                parser.enter()?;
                while let Some(hash) = parser.next_key()? {
                    let text = parser.value_up_to(MAX_ATTACHMENT)?;
                    import.attachment(&hash, &text)?;
                }
                Ok(true)
            })?;
        }
        self.for_each_intact_field(&mut |import, key, parser| {
            if key != "branches" {
                return Ok(false);
            }
            parser.enter()?;
            while parser.next_element()? {
                import.read_branch(parser)?;
            }
            Ok(true)
        })?;
        self.for_each_intact_field(&mut |import, key, parser| {
            match key {
                "runs" => import.for_each_item(parser, Self::run)?,
                "checkpoints" => import.for_each_item(parser, Self::checkpoint)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// Calls `field` for each field of the document up to the first damage. `field` returns whether it
    /// consumed the value.
    fn for_each_intact_field(&mut self, field: &mut FieldCallback<'_, 'a>) -> Result<(), StreamError> {
        match self.for_each_field(field) {
            Err(StreamError::Json(PullError::Damaged { at, reason })) => {
                if !std::mem::replace(&mut self.damage_reported, true) {
                    self.report_dropped(damage_message(reason, at));
                }
                Ok(())
            }
            other => other,
        }
    }

    fn for_each_field(&mut self, field: &mut FieldCallback<'_, 'a>) -> Result<(), StreamError> {
        let source = self.source;
        let mut parser = PullParser::new(source.open()?)?;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if !field(self, &key, &mut parser)? {
                parser.skip()?;
            }
            self.out.progress(parser.consumed())?;
        }
        Ok(parser.end()?)
    }

    fn for_each_item<T: DeserializeOwned>(
        &mut self,
        parser: &mut PullParser<Box<dyn Read + Send + '_>>,
        import: fn(&mut Self, T) -> Result<(), ImportError>,
    ) -> Result<(), StreamError> {
        if parser.peek()? != Some(b'[') {
            parser.skip()?;
            return Ok(());
        }
        parser.enter()?;
        while parser.next_element()? {
            let text = parser.value()?;
            match from_text(&text) {
                Some(item) => import(self, item)?,
                None => self.report_dropped(format!("unreadable entry: `{}`", excerpt(&text))),
            }
        }
        Ok(())
    }

    fn read_branch(&mut self, parser: &mut PullParser<Box<dyn Read + Send + '_>>) -> Result<(), StreamError> {
        let mut header = Map::new();
        let mut begun = false;
        parser.enter()?;
        while let Some(key) = parser.next_key()? {
            if key == "messages" {
                // hfs writes a branch's own fields before its messages.
                let branch = serde_json::from_value(std::mem::take(&mut header).into());
                match branch {
                    Ok(branch) => {
                        self.branch(&branch)?;
                        begun = true;
                        self.for_each_item(parser, Self::message)?;
                    }
                    Err(error) => {
                        self.report_dropped(format!("unreadable branch: {error}"));
                        parser.skip()?;
                    }
                }
            } else if let Some(parsed) = parse(&parser.value()?) {
                header.insert(key, parsed.value);
            }
        }
        if !begun && let Ok(branch) = serde_json::from_value(header.into()) {
            self.branch(&branch)?;
        }
        Ok(())
    }

    fn branch(&mut self, branch: &v2::Branch) -> Result<(), ImportError> {
        if self.branches.contains_key(&branch.id) {
            return Err(self.source.damaged(format!("it contains branch {:?} twice", branch.name)));
        }
        let key = self.branches.len();
        if key > 0 {
            let parent =
                branch.parent.and_then(|parent| self.branches.get(&parent)).copied().unwrap_or((0, 0));
            let forked_at = branch.forked_at.min(parent.1);
            if forked_at != branch.forked_at {
                self.report_dropped(format!("branch {:?} forks after the end of its parent", branch.name));
            }
            self.out.send(ImportEvent::Branch(ForeignBranch {
                key,
                parent: parent.0,
                forked_at,
                id: Some(branch.id),
                name: Some(branch.name.clone()),
                undone: branch.undone,
            }))?;
            self.branches.insert(branch.id, (key, forked_at));
        } else {
            self.branches.insert(branch.id, (0, 0));
        }
        self.current_key = key;
        self.current_id = Some(branch.id);
        Ok(())
    }

    fn message(&mut self, message: v2::Message) -> Result<(), ImportError> {
        if let Some(id) = self.current_id
            && let Some((_, head)) = self.branches.get_mut(&id)
        {
            *head += 1;
        }
        self.count_mapped();
        let mut message: MessageDraft = message.into();
        for part in &mut message.parts {
            if let Part::Attachment { hash: reference @ Some(_), name, .. } = part
                && !reference.is_some_and(|hash| self.attached.contains(&hash))
            {
                *reference = None;
                let name = name.as_deref().unwrap_or("attachment");
                self.report.warn(None, format!("the bytes of {name} in message {} are missing", message.id));
            }
        }
        self.out.send(ImportEvent::Message { branch: self.current_key, message })
    }

    fn run(&mut self, run: v2::Run) -> Result<(), ImportError> {
        match run.try_into() {
            Ok(run) => {
                self.count_mapped();
                self.out.send(ImportEvent::Run(Box::new(run)))?;
            }
            Err(error) => self.report_dropped(format!("unreadable run: {error}")),
        }
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: v2::Checkpoint) -> Result<(), ImportError> {
        match checkpoint.try_into() {
            Ok(checkpoint) => {
                self.count_mapped();
                self.out.send(ImportEvent::Checkpoint(Box::new(checkpoint)))?;
            }
            Err(error) => self.report_dropped(format!("unreadable checkpoint: {error}")),
        }
        Ok(())
    }

    fn attachment(&mut self, hash: &str, text: &str) -> Result<(), ImportError> {
        let bytes = from_text::<String>(text).and_then(|text| STANDARD.decode(text).ok());
        let Some(bytes) = bytes else {
            self.report_dropped(format!("attachment {hash} cannot be decoded"));
            return Ok(());
        };
        let found = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        if found.to_string() != hash {
            self.report_dropped(format!("attachment {hash} does not match its hash"));
            return Ok(());
        }
        self.count_mapped();
        self.attached.insert(found);
        self.out.send(ImportEvent::Attachment(Attachment { hash: found, bytes }))
    }

    fn end(mut self, current: BranchId) -> Result<(), ImportError> {
        if let Some((key, _)) = self.branches.get(&current)
            && *key > 0
        {
            self.out.send(ImportEvent::CurrentBranch(*key))?;
        }
        self.out.send(ImportEvent::End(self.report.finish()))
    }
}

type FieldCallback<'f, 'a> = dyn FnMut(
        &mut DocumentImport<'a>,
        &str,
        &mut PullParser<Box<dyn Read + Send + 'a>>,
    ) -> Result<bool, StreamError>
    + 'f;
