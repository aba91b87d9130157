//! Finds the transcripts in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;

use crate::detect::FormatProbe;
use crate::{Format, Source, detect};

/// Maximum depth of subfolders, so that a loop of symbolic links ends.
const MAX_DEPTH: usize = 12;
/// Extensions of files that may contain transcripts.
const EXTENSIONS: [&str; 9] = ["jsonl", "json", "zst", "db", "sqlite", "sqlite3", "md", "zip", "ndjson"];

/// Finds the transcripts in a folder, sorted by path. If `path` is a file, it is returned whatever it
/// contains.
///
/// Files that no reader recognizes are omitted. Files that belong to the session of another file become its
/// companions.
///
/// # Errors
/// Returns an error if `path` itself cannot be read. Unreadable files and folders below it are skipped.
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
        match owner_of(&file, &known) {
            // Other files beside a subagent's transcript are read together with it.
            Some(owner) if file.extension().is_some_and(|end| end == "jsonl") => {
                companions.entry(owner).or_default().push(file);
            }
            Some(_) => {}
            None => own.push(file),
        }
    }
    let sources = own.into_iter().filter_map(|file| {
        let with = companions.remove(&file).unwrap_or_default();
        let source = Source::file(file).with_companions(with);
        // Keep files that cannot be read or parsed, so that the import reports the reason.
        let wanted = detect(&source).map_or(true, |format| format.is_some()) || is_unparsable_json(&source);
        wanted.then_some(source)
    });
    Ok(sources.collect())
}

/// The transcripts of subagents that belong to the session of one transcript.
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
    agents.retain(|file| file != path && owner_of(file, &known).is_some());
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
            .is_some_and(|end| EXTENSIONS.iter().any(|known| end.eq_ignore_ascii_case(known)))
        {
            files.push(path);
        }
    }
}

/// Whether a file with a JSON extension contains no JSON: a damaged transcript rather than another program's
/// file.
fn is_unparsable_json(source: &Source) -> bool {
    let json = source.path().and_then(Path::extension).is_some_and(|end| end == "jsonl" || end == "json");
    json && source.bytes() > 0 && FormatProbe::new(source).is_ok_and(|probe| probe.is_unparsable())
}

/// Whether one reader reads the folder as a unit.
fn is_source(folder: &Path) -> bool {
    detect(&Source::file(folder)).is_ok_and(|format| format.is_some())
}

/// The transcript whose session `file` belongs to. Claude Code keeps the transcripts of subagents in a folder
/// named after the session; older versions keep them beside it.
fn owner_of(file: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?;
    if folder.file_name()? == "subagents" || folder.file_name()? == "tool-results" {
        let session = folder.parent()?;
        let owner = session.with_file_name(format!("{}.jsonl", session.file_name()?.to_str()?));
        return known.contains(&owner).then_some(owner);
    }
    if !name.starts_with("agent-") || !name.ends_with(".jsonl") {
        return None;
    }
    let probe = FormatProbe::new(&Source::file(file)).ok()?;
    let session =
        probe.records().iter().find_map(|record| record.get("sessionId")?.as_str().map(str::to_owned))?;
    let owner = folder.join(format!("{session}.jsonl"));
    (known.contains(&owner)
        && owner != file
        && detect(&Source::file(&owner)).ok()? == Some(Format::ClaudeCode))
    .then_some(owner)
}
