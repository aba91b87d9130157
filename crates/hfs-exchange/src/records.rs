//! Iterates over the records of a source, which are lines or the elements of an array in a document.
//!
//! Parsing JSON takes most of the time of an import, so the lines of a large file are decoded on several
//! threads. The visitor runs on the calling thread and receives the entries in order. A bounded queue between
//! them limits the use of memory.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use hfs_core::{ImportError, lock_unpoisoned};
use serde_json::{Map, Value};

use crate::Source;
use crate::json::lines::{CHUNK_BYTES, Line, LineChunk, LineChunks};
use crate::json::pull::{Element, PullError, PullParser, visit_elements};
use crate::json::value::{Fragment, salvage, salvage_open};
use crate::json::{Parsed, parse};
use crate::readers::excerpt;
use crate::resume::LineStart;

/// How the records of a source are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One record per line.
    Lines,
    /// Elements of an array: the document itself, or the value of this key.
    Array(Option<&'static str>),
}

/// A type that records are decoded into.
pub(crate) trait Decode: Sized {
    /// Decodes a text; `None` if it is not exactly one object.
    fn decode(text: &str) -> Option<Self>;
}

/// A record with all of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonRecord {
    pub fields: Map<String, Value>,
    /// The original text, if the fields do not represent it without loss.
    pub raw: Option<String>,
}

impl Decode for JsonRecord {
    fn decode(text: &str) -> Option<Self> {
        match parse(text)? {
            Parsed { value: Value::Object(fields), raw } => Some(Self { fields, raw }),
            _ => None,
        }
    }
}

/// One item of a source.
pub(crate) enum Entry<T> {
    /// A record, and the length of its text in bytes.
    Record(T, usize),
    /// Text that is not a record, with a message for the report.
    Damaged(String),
}

/// Position of an entry in the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordPosition {
    /// Line number, or number of the element in an array, from 1.
    pub line: u64,
    /// Number of bytes read so far.
    pub bytes: u64,
    /// The place after the line; `None` in an array, and for a line that may be incomplete.
    pub next: Option<LineStart>,
}

/// Calls the visitor for every entry of the source, in order. Two passes over an unchanged source visit the
/// same entries, even if they decode them into different types.
pub(crate) fn for_each_record<T: Decode + Send>(
    source: &Source,
    framing: Framing,
    visit: &mut RecordVisitor<'_, T>,
) -> Result<(), ImportError> {
    match framing {
        Framing::Lines => visit_lines(source, source.open()?, LineStart::BEGINNING, visit),
        Framing::Array(key) => visit_array(source, source.open()?, key, visit),
    }
}

/// Like [`for_each_record`], for the lines of a file from this place on.
pub(crate) fn for_each_record_from<T: Decode + Send>(
    source: &Source,
    start: LineStart,
    visit: &mut RecordVisitor<'_, T>,
) -> Result<(), ImportError> {
    if start == LineStart::BEGINNING {
        return for_each_record(source, Framing::Lines, visit);
    }
    visit_lines(source, source.open_from(start.offset)?, start, visit)
}

type RecordVisitor<'v, T> = dyn FnMut(RecordPosition, Entry<T>) -> Result<(), ImportError> + 'v;

fn visit_lines<T: Decode + Send>(
    source: &Source,
    input: impl Read + Send,
    start: LineStart,
    visit: &mut RecordVisitor<'_, T>,
) -> Result<(), ImportError> {
    let io = |error| source.io(error);
    let mut chunks = LineChunks::new(input, start);
    let Some(first) = chunks.next().map_err(io)? else { return Ok(()) };
    // Decode the first chunk on this thread: most files have only one.
    decode_lines::<T>(&first, &mut |at, entry| visit(at, entry))?;
    drop(first);
    if chunks.is_at_end() {
        return Ok(());
    }
    let decode = |chunk: &LineChunk| {
        let mut entries = Vec::with_capacity(chunk.line_count());
        let collected = decode_lines::<T>(chunk, &mut |at, entry| {
            entries.push((at, entry));
            Ok(())
        });
        collected.map(|()| entries)
    };
    decode_in_order(chunks, decode, |entries| {
        entries.map_err(io)??.into_iter().try_for_each(|(at, entry)| visit(at, entry))
    })
}

fn decode_lines<T: Decode>(chunk: &LineChunk, found: &mut RecordVisitor<'_, T>) -> Result<(), ImportError> {
    let open_line = chunk.open_line();
    for (line, range, content) in chunk.lines() {
        let is_open = open_line == Some(line);
        // Of a long line, only its length is known, not whether it has ended.
        let is_whole = !is_open && matches!(content, Line::Text(_));
        let next = is_whole.then_some(LineStart { line: line + 1, offset: range.end });
        let at = RecordPosition { line, bytes: range.start, next };
        match content {
            Line::TooLong { bytes } => {
                found(at, Entry::Damaged(format!("a line of {bytes} bytes is longer than 64 MiB")))?;
            }
            Line::Text(text) => decode_text(at, &text, is_open, found)?,
        }
    }
    Ok(())
}

fn decode_text<T: Decode>(
    at: RecordPosition,
    text: &str,
    is_open: bool,
    found: &mut RecordVisitor<'_, T>,
) -> Result<(), ImportError> {
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    if let Some(record) = T::decode(text) {
        return found(at, Entry::Record(record, text.len()));
    }
    let fragments = if is_open { salvage_open(text) } else { salvage(text) };
    for fragment in fragments {
        let damaged = match fragment {
            Fragment::Record(text) => {
                if let Some(record) = T::decode(text) {
                    found(at, Entry::Record(record, text.len()))?;
                    continue;
                }
                text
            }
            Fragment::Damaged(text) => text,
        };
        found(at, Entry::Damaged(format!("not a JSON record: `{}`", excerpt(damaged))))?;
    }
    Ok(())
}

fn visit_array<T: Decode>(
    source: &Source,
    input: impl Read,
    key: Option<&str>,
    visit: &mut RecordVisitor<'_, T>,
) -> Result<(), ImportError> {
    let mut at = RecordPosition { line: 0, bytes: 0, next: None };
    let parse_all = || -> Result<(), StreamError> {
        let mut parser = PullParser::new(input)?;
        parser.enter()?;
        if let Some(key) = key {
            loop {
                match parser.next_key()? {
                    Some(found) if found == key => break,
                    Some(_) => parser.skip()?,
                    None => return Ok(()),
                }
            }
            parser.enter()?;
        }
        visit_elements(&mut parser, key.map(|_| b'}'), |element, bytes| {
            at = RecordPosition { line: at.line + 1, bytes, next: None };
            let (entry, is_record) = match element {
                Element::Text(text) => match T::decode(text) {
                    Some(record) => (Entry::Record(record, text.len()), true),
                    None => (Entry::Damaged(format!("not a JSON object: `{}`", excerpt(text))), false),
                },
                Element::Damaged { at, reason } => {
                    (Entry::Damaged(format!("{reason} (at byte {at})")), false)
                }
            };
            visit(at, entry)?;
            Ok::<bool, StreamError>(is_record)
        })?;
        if key.is_some() {
            while parser.next_key()?.is_some() {
                parser.skip()?;
            }
        }
        Ok(parser.end()?)
    };
    match parse_all() {
        Ok(()) => Ok(()),
        Err(StreamError::Import(error)) => Err(error),
        Err(StreamError::Json(PullError::Io(error))) => Err(source.io(error)),
        Err(StreamError::Json(PullError::Damaged { at: byte, reason })) => visit(
            RecordPosition { line: at.line + 1, ..at },
            Entry::Damaged(format!("{reason} (at byte {byte})")),
        ),
    }
}

/// Why a pass over a document ended early.
pub(crate) enum StreamError {
    Json(PullError),
    Import(ImportError),
}

impl From<PullError> for StreamError {
    fn from(error: PullError) -> Self {
        Self::Json(error)
    }
}

impl From<ImportError> for StreamError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl StreamError {
    /// The import error for a pass over this source.
    pub(crate) fn into_import_error(self, source: &Source) -> ImportError {
        match self {
            Self::Import(error) => error,
            Self::Json(PullError::Io(error)) => source.io(error),
            Self::Json(PullError::Damaged { at, reason }) => {
                source.damaged(format!("{reason} (at byte {at})"))
            }
        }
    }
}

/// The warning about a document that was imported up to the damage.
pub(crate) fn damage_message(reason: &str, at: u64) -> String {
    format!("the rest of the document cannot be read: {reason} (at byte {at})")
}

/// Maximum number of chunks that have been read, but not visited.
const MAX_QUEUED: usize = 8;
/// With more threads, the visitor, which runs on the calling thread, is the bottleneck.
const MAX_THREADS: usize = 4;

/// An entry of the queue, in input order.
enum QueueEntry<T> {
    /// A chunk: the channel that receives the result of decoding it.
    Chunk(Receiver<T>),
    /// An additional slot for a long chunk, which counts as several.
    Reserved,
}

/// Reads the chunks for the decoding threads, in input order. The threads share the dispenser through a
/// mutex.
struct ChunkDispenser<R, T> {
    chunks: LineChunks<R>,
    /// `None` after the last chunk, which closes the queue.
    queue: Option<SyncSender<io::Result<QueueEntry<T>>>>,
}

impl<R: Read, T> ChunkDispenser<R, T> {
    /// Recycles a processed chunk, then returns the next one with the channel for its result. Blocks while
    /// the queue is full.
    fn next(&mut self, done: Option<LineChunk>) -> Option<(LineChunk, SyncSender<T>)> {
        if let Some(chunk) = done {
            self.chunks.recycle(chunk);
        }
        let queue = self.queue.as_ref()?;
        let chunk = match self.chunks.next() {
            Ok(chunk) => chunk,
            Err(error) => {
                // A closed queue means that the visitor has stopped.
                let _ = queue.send(Err(error));
                None
            }
        };
        let next = chunk.and_then(|chunk| {
            // The queue is shorter than the maximum number of slots, so that many slots leave no earlier chunk in
            // the queue, and more would have no effect.
            for _ in 1..chunk.len().div_ceil(CHUNK_BYTES).min(2 * MAX_QUEUED) {
                queue.send(Ok(QueueEntry::Reserved)).ok()?;
            }
            let (result_sender, result_receiver) = sync_channel(1);
            queue.send(Ok(QueueEntry::Chunk(result_receiver))).ok()?;
            Some((chunk, result_sender))
        });
        if next.is_none() {
            self.queue = None;
        }
        next
    }
}

/// Calls `visit` with each decoded chunk, in input order, until it returns an error.
///
/// The queue preserves the order and limits the use of memory. A thread enqueues the channel for its result
/// before it decodes the chunk, so at most [`MAX_QUEUED`] chunks are in the queue. A thread pool that returns
/// results as they are ready would need a reorder buffer, which a single slow chunk could fill without limit.
///
/// # Errors
/// Returns any error of `visit`, which also receives the errors of the input.
fn decode_in_order<R, T, E>(
    chunks: LineChunks<R>,
    decode: impl Fn(&LineChunk) -> T + Sync,
    mut visit: impl FnMut(io::Result<T>) -> Result<(), E>,
) -> Result<(), E>
where
    R: Read + Send,
    T: Send,
{
    let (queue, queued) = sync_channel(MAX_QUEUED);
    let dispenser = Mutex::new(ChunkDispenser { chunks, queue: Some(queue) });
    let work = || {
        let next = |done| lock_unpoisoned(&dispenser).next(done);
        let mut done = None;
        while let Some((chunk, result_sender)) = next(done) {
            if result_sender.send(decode(&chunk)).is_err() {
                break;
            }
            done = Some(chunk);
        }
    };
    thread::scope(|scope| {
        // Move the receiver into this closure, which drops it before the threads are joined. A thread that is
        // blocked on a full queue then ends when `visit` fails.
        let queued = queued;
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        for number in 0..threads {
            let spawned = thread::Builder::new().name("decode".into()).spawn_scoped(scope, work);
            if let Err(error) = spawned
                && number == 0
            {
                return visit(Err(error));
            }
        }
        for entry in queued {
            match entry {
                Ok(QueueEntry::Reserved) => {}
                // A thread that sent no result has panicked; the scope propagates its panic.
                Ok(QueueEntry::Chunk(result)) => match result.recv() {
                    Ok(content) => visit(Ok(content))?,
                    Err(_) => break,
                },
                Err(error) => visit(Err(error))?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<u8> {
        (0..count).map(|number| format!("{number:0>99}\n")).collect::<String>().into_bytes()
    }

    fn first_number(chunk: &LineChunk) -> u64 {
        chunk.lines().next().unwrap().0
    }

    #[test]
    fn chunks_are_visited_in_order() {
        let bytes = numbers(200_000);
        let mut found = Vec::new();
        decode_in_order(LineChunks::new(&bytes[..], LineStart::BEGINNING), first_number, |number| {
            found.push(number.unwrap());
            Ok::<(), ()>(())
        })
        .unwrap();
        assert!(found.len() > 10 && found.is_sorted());
    }

    #[test]
    fn an_error_of_the_visitor_stops_the_threads() {
        let bytes = numbers(200_000);
        let mut taken = 0;
        let stopped =
            decode_in_order(LineChunks::new(&bytes[..], LineStart::BEGINNING), first_number, |_| {
                taken += 1;
                if taken == 2 { Err("enough") } else { Ok(()) }
            });
        assert_eq!((stopped, taken), (Err("enough"), 2));
    }

    #[test]
    fn a_read_error_follows_the_chunks_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let bytes = numbers(50_000);
        let mut results = Vec::new();
        let _ = decode_in_order(
            LineChunks::new(bytes.chain(Broken), LineStart::BEGINNING),
            first_number,
            |found| {
                results.push(found.map_err(|error| error.to_string()));
                Ok::<(), ()>(())
            },
        );
        assert!(results.len() > 2);
        assert_eq!(results.pop(), Some(Err("broken".into())));
        assert!(results.iter().all(Result::is_ok));
    }
}
