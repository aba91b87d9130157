//! Finds the transcripts below a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;

use crate::detect::Head;
use crate::{Format, Source, detect};

/// Folders are followed so deep at most, so that no loop of links goes on for ever.
const MAX_DEPTH: usize = 12;
/// Endings of files that may hold transcripts.
const ENDINGS: [&str; 9] = ["jsonl", "json", "zst", "db", "sqlite", "sqlite3", "md", "zip", "ndjson"];

/// The transcripts below `path`, in order of their paths; a file is one itself, whatever is in it. Files that no reader knows are
/// left out, and files that belong to another's session come with it, as its companions.
///
/// # Errors
/// When `path` itself cannot be read. What cannot be read below it is left out.
pub fn discover(path: &Path) -> Result<Vec<Source>, ImportError> {
    let io = |source| ImportError::Io { path: path.display().to_string(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![Source::file(path).with_companions(companions_of(path))]);
    }
    if is_source(path) {
        return Ok(vec![Source::file(path)]);
    }
    fs::read_dir(path).map_err(io)?;
    let mut files = Vec::new();
    walk(path, 0, &mut files);
    files.sort();
    let known: BTreeSet<PathBuf> = files.iter().cloned().collect();
    let mut companions: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut own = Vec::new();
    for file in files {
        match host_of(&file, &known) {
            // What stands beside a subagent's transcript is read with it.
            Some(host) if file.extension().is_some_and(|end| end == "jsonl") => {
                companions.entry(host).or_default().push(file);
            }
            Some(_) => {}
            None => own.push(file),
        }
    }
    let sources = own.into_iter().filter_map(|file| {
        let with = companions.remove(&file).unwrap_or_default();
        let source = Source::file(file).with_companions(with);
        // What cannot be read or holds no data at all is kept, so that reading it says why.
        let wanted = detect(&source).map_or(true, |format| format.is_some()) || is_garbage(&source);
        wanted.then_some(source)
    });
    Ok(sources.collect())
}

/// The files beside one transcript that belong to its session.
fn companions_of(path: &Path) -> Vec<PathBuf> {
    if path.extension().is_none_or(|end| end != "jsonl") {
        return Vec::new();
    }
    let beside =
        path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folders = beside.map(Path::to_owned).into_iter().chain([path.with_extension("").join("subagents")]);
    let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flat_map(Iterator::flatten);
    let is_agent = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("agent-") && name.ends_with(".jsonl")
    };
    let mut agents: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_agent).collect();
    let known = BTreeSet::from([path.to_owned()]);
    agents.retain(|file| file != path && host_of(file, &known).is_some());
    agents.sort();
    agents
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if is_source(&path) {
                files.push(path);
            } else if depth < MAX_DEPTH {
                walk(&path, depth + 1, files);
            }
        } else if path
            .extension()
            .is_some_and(|end| ENDINGS.iter().any(|known| end.eq_ignore_ascii_case(known)))
        {
            files.push(path);
        }
    }
}

/// Whether a file that should hold JSON holds none: a damaged transcript rather than another program's file.
fn is_garbage(source: &Source) -> bool {
    let json = source.path().and_then(Path::extension).is_some_and(|end| end == "jsonl" || end == "json");
    json && source.bytes() > 0 && Head::of(source).is_ok_and(|head| head.is_garbage())
}

/// Whether a reader takes a folder as a whole.
fn is_source(folder: &Path) -> bool {
    detect(&Source::file(folder)).is_ok_and(|format| format.is_some())
}

/// The file whose session a file is a part of: Claude Code's subagents stand in a folder named after the
/// session, or, from older versions, beside it.
fn host_of(file: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?;
    if folder.file_name()? == "subagents" || folder.file_name()? == "tool-results" {
        let session = folder.parent()?;
        let host = session.with_file_name(format!("{}.jsonl", session.file_name()?.to_str()?));
        return known.contains(&host).then_some(host);
    }
    if !name.starts_with("agent-") || !name.ends_with(".jsonl") {
        return None;
    }
    let head = Head::of(&Source::file(file)).ok()?;
    let session =
        head.objects().iter().find_map(|record| record.get("sessionId")?.as_str().map(str::to_owned))?;
    let host = folder.join(format!("{session}.jsonl"));
    (known.contains(&host) && host != file && detect(&Source::file(&host)).ok()? == Some(Format::ClaudeCode))
        .then_some(host)
}
