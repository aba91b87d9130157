//! Documents of the present version, read as a stream.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    Attachment, BranchId, ContentHash, Disposition, ForeignSession, ImportError, MessageDraft, Origin, Part,
    Seq, SessionSink,
};
use serde::de::DeserializeOwned;

use super::{NAME, stopped};
use crate::Source;
use crate::document::v2;
use crate::json::parse;
use crate::json::walk::{Walk, WalkError};
use crate::records::Stop;
use crate::tally::{Tally, excerpt};

/// The largest attachment, as text, that is read.
const MAX_ATTACHMENT: usize = 1 << 30;

/// Reads a document of the present version.
pub(super) fn read(source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let mut first = First::default();
    match first.find(source) {
        // What stands before the damage is saved; the second pass counts what is lost.
        Ok(()) | Err(Stop::Walk(WalkError::Damaged { .. })) => {}
        Err(stop) => return Err(stopped(source, stop)),
    }
    let Some(session) = first.session else {
        return Err(source.damaged("it has no session"));
    };
    let path = source.path().map(|path| path.display().to_string());
    let origin = Origin { format: NAME.into(), id: session.id.to_string(), path };
    let current = session.current_branch;
    let mut foreign = session.into_foreign(origin);
    foreign.main_branch = first.main.map(|branch| (branch.id, branch.name));
    let mut into = Into::new(source, sink, Tally::default());
    if !into.begin(foreign)? {
        return Ok(());
    }
    into.everything(first.attachments).map_err(|stop| stopped(source, stop))?;
    into.end(current)
}

/// Hands over a document that has been migrated.
pub(super) fn push(
    source: &Source,
    document: v2::Document,
    origin: Origin,
    tally: Tally,
    sink: &mut dyn SessionSink,
) -> Result<(), ImportError> {
    let current = document.session.current_branch;
    let mut foreign = document.session.into_foreign(origin);
    let main = document.branches.first().map(|main| (main.branch.id, main.branch.name.clone()));
    foreign.main_branch = main;
    // Records were counted where they were read.
    let mut into = Into::new(source, sink, tally);
    into.counting = false;
    if !into.begin(foreign)? {
        return Ok(());
    }
    for branch in document.branches {
        into.branch(&branch.branch)?;
        for message in branch.messages {
            into.message(message)?;
        }
    }
    for run in document.runs {
        into.run(run)?;
    }
    for checkpoint in document.checkpoints {
        into.checkpoint(checkpoint)?;
    }
    into.end(current)
}

#[derive(Default)]
struct First {
    session: Option<v2::Session>,
    main: Option<v2::Branch>,
    attachments: bool,
}

impl First {
    /// Finds what must be known before the first message.
    fn find(&mut self, source: &Source) -> Result<(), Stop> {
        let mut walk = Walk::new(source.open()?)?;
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            match key.as_str() {
                "session" => self.session = from_text(&walk.value()?),
                "branches" => {
                    walk.enter()?;
                    while walk.next_element()? {
                        if self.main.is_some() {
                            walk.skip()?;
                        } else {
                            self.find_main(&mut walk)?;
                        }
                    }
                }
                "attachments" => {
                    self.attachments = true;
                    walk.skip()?;
                }
                _ => walk.skip()?,
            }
        }
        Ok(())
    }

    fn find_main(&mut self, walk: &mut Walk<Box<dyn Read + Send + '_>>) -> Result<(), Stop> {
        let mut header = serde_json::Map::new();
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if key == "messages" {
                // A branch's own fields stand before its messages, as we write them.
                self.main = self.main.take().or_else(|| serde_json::from_value(header.clone().into()).ok());
                walk.skip()?;
            } else if let Some(parsed) = parse(&walk.value()?) {
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

/// A session on its way into a sink.
struct Into<'a> {
    source: &'a Source,
    sink: &'a mut dyn SessionSink,
    tally: Tally,
    counting: bool,
    /// Each branch's key and head.
    branches: HashMap<BranchId, (usize, Seq)>,
    open: usize,
    open_id: Option<BranchId>,
    /// The attachments whose bytes were there.
    attached: HashSet<ContentHash>,
    /// The document is damaged, and that is in the report.
    cut: bool,
}

impl<'a> Into<'a> {
    fn new(source: &'a Source, sink: &'a mut dyn SessionSink, tally: Tally) -> Self {
        Self {
            source,
            sink,
            tally,
            counting: true,
            branches: HashMap::new(),
            open: 0,
            open_id: None,
            attached: HashSet::new(),
            cut: false,
        }
    }

    fn begin(&mut self, session: ForeignSession) -> Result<bool, ImportError> {
        Ok(self.sink.begin(session)? == Disposition::Take)
    }

    fn count(&mut self) {
        if self.counting {
            self.tally.mapped();
        }
    }

    fn lost(&mut self, why: String) {
        if self.counting {
            self.tally.dropped(None, why);
        } else {
            self.tally.warn(None, why);
        }
    }

    /// Reads the document once more: its attachments first, because messages refer to them, then the rest.
    fn everything(&mut self, attachments: bool) -> Result<(), Stop> {
        if attachments {
            self.walk(&mut |into, key, walk| {
                if key != "attachments" {
                    return Ok(false);
                }
                walk.enter()?;
                while let Some(hash) = walk.next_key()? {
                    let text = walk.value_up_to(MAX_ATTACHMENT)?;
                    into.attachment(&hash, &text)?;
                }
                Ok(true)
            })?;
        }
        self.walk(&mut |into, key, walk| {
            if key != "branches" {
                return Ok(false);
            }
            walk.enter()?;
            while walk.next_element()? {
                into.read_branch(walk)?;
            }
            Ok(true)
        })?;
        self.walk(&mut |into, key, walk| {
            match key {
                "runs" => into.each(walk, Self::run)?,
                "checkpoints" => into.each(walk, Self::checkpoint)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// Walks through the document's fields as far as it is whole; `field` says whether it took the value.
    fn walk(&mut self, field: &mut Field<'_, 'a>) -> Result<(), Stop> {
        match self.try_walk(field) {
            Err(Stop::Walk(WalkError::Damaged { at, reason })) => {
                if !std::mem::replace(&mut self.cut, true) {
                    self.lost(format!("the document cannot be read any further: {reason} (at byte {at})"));
                }
                Ok(())
            }
            other => other,
        }
    }

    fn try_walk(&mut self, field: &mut Field<'_, 'a>) -> Result<(), Stop> {
        let source = self.source;
        let mut walk = Walk::new(source.open()?)?;
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if !field(self, &key, &mut walk)? {
                walk.skip()?;
            }
            crate::readers::go_on(source, self.sink, walk.consumed())?;
        }
        Ok(())
    }

    fn each<T: DeserializeOwned>(
        &mut self,
        walk: &mut Walk<Box<dyn Read + Send + '_>>,
        take: fn(&mut Self, T) -> Result<(), ImportError>,
    ) -> Result<(), Stop> {
        if walk.peek()? != Some(b'[') {
            walk.skip()?;
            return Ok(());
        }
        walk.enter()?;
        while walk.next_element()? {
            let text = walk.value()?;
            match from_text(&text) {
                Some(item) => take(self, item)?,
                None => self.lost(format!("cannot be understood: `{}`", excerpt(&text))),
            }
        }
        Ok(())
    }

    fn read_branch(&mut self, walk: &mut Walk<Box<dyn Read + Send + '_>>) -> Result<(), Stop> {
        let mut header = serde_json::Map::new();
        let mut begun = false;
        walk.enter()?;
        while let Some(key) = walk.next_key()? {
            if key == "messages" {
                // A branch's own fields stand before its messages, as we write them.
                let branch = serde_json::from_value(std::mem::take(&mut header).into());
                match branch {
                    Ok(branch) => {
                        self.branch(&branch)?;
                        begun = true;
                        self.each(walk, Self::message)?;
                    }
                    Err(error) => {
                        self.lost(format!("a branch cannot be understood: {error}"));
                        walk.skip()?;
                    }
                }
            } else if let Some(parsed) = parse(&walk.value()?) {
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
            return Err(self.source.damaged(format!("it holds branch {:?} twice", branch.name)));
        }
        let key = self.branches.len();
        if key > 0 {
            let parent =
                branch.parent.and_then(|parent| self.branches.get(&parent)).copied().unwrap_or((0, 0));
            let forked_at = branch.forked_at.min(parent.1);
            if forked_at != branch.forked_at {
                self.lost(format!("branch {:?} forks beyond its parent's end", branch.name));
            }
            self.sink.branch(key, parent.0, forked_at, Some(branch.id), Some(branch.name.clone()))?;
            self.branches.insert(branch.id, (key, forked_at));
        } else {
            self.branches.insert(branch.id, (0, 0));
        }
        self.open = key;
        self.open_id = Some(branch.id);
        Ok(())
    }

    fn message(&mut self, message: v2::Message) -> Result<(), ImportError> {
        if let Some(id) = self.open_id
            && let Some((_, head)) = self.branches.get_mut(&id)
        {
            *head += 1;
        }
        self.count();
        let mut message: MessageDraft = message.into();
        for part in &mut message.parts {
            if let Part::Attachment { hash: reference @ Some(_), name, .. } = part
                && !reference.is_some_and(|hash| self.attached.contains(&hash))
            {
                *reference = None;
                let name = name.as_deref().unwrap_or("attachment");
                self.tally.warn(None, format!("the bytes of {name} in message {} are lost", message.id));
            }
        }
        self.sink.message(self.open, message)?;
        Ok(())
    }

    fn run(&mut self, run: v2::Run) -> Result<(), ImportError> {
        match run.try_into() {
            Ok(run) => {
                self.count();
                self.sink.run(run)?;
            }
            Err(error) => self.lost(format!("a run cannot be understood: {error}")),
        }
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: v2::Checkpoint) -> Result<(), ImportError> {
        match checkpoint.try_into() {
            Ok(checkpoint) => {
                self.count();
                self.sink.checkpoint(checkpoint)?;
            }
            Err(error) => self.lost(format!("a checkpoint cannot be understood: {error}")),
        }
        Ok(())
    }

    fn attachment(&mut self, hash: &str, text: &str) -> Result<(), ImportError> {
        let bytes = from_text::<String>(text).and_then(|text| STANDARD.decode(text).ok());
        let Some(bytes) = bytes else {
            self.lost(format!("attachment {hash} cannot be decoded"));
            return Ok(());
        };
        let found = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        if found.to_string() != hash {
            self.lost(format!("attachment {hash} is not what it was"));
            return Ok(());
        }
        self.count();
        self.attached.insert(found);
        self.sink.attachment(Attachment { hash: found, bytes })?;
        Ok(())
    }

    fn end(self, current: BranchId) -> Result<(), ImportError> {
        if let Some((key, _)) = self.branches.get(&current)
            && *key > 0
        {
            self.sink.current_branch(*key)?;
        }
        self.sink.end(self.tally.finish())?;
        Ok(())
    }
}

type Field<'f, 'a> =
    dyn FnMut(&mut Into<'a>, &str, &mut Walk<Box<dyn Read + Send + 'a>>) -> Result<bool, Stop> + 'f;
