//! Finds the transcripts in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;

use crate::detect::FormatProbe;
use crate::unread::UnreadFormat;
use crate::{Format, Source, detect};

/// Maximum depth of subfolders. The limit also stops the walk in a loop of symbolic links.
const MAX_DEPTH: usize = 12;
/// Extensions of files that may contain transcripts.
const EXTENSIONS: [&str; 11] =
    ["jsonl", "vscdb", "json", "zst", "gz", "db", "sqlite", "sqlite3", "md", "zip", "ndjson"];

/// Finds the transcripts in a folder, sorted by path. If `path` is a file, returns that file without checking
/// its contents.
///
/// Files that no reader recognizes are omitted. The transcript of a subagent is returned as a companion of
/// the transcript that started it.
///
/// # Errors
/// Returns an error if `path` itself cannot be read, and one that names the program that wrote the files if the
/// folder has only files of a format that hfs does not read. Unreadable files and folders below it are skipped.
pub fn discover(path: &Path) -> Result<Vec<Source>, ImportError> {
    let io = |source| ImportError::Io { path: path.display().to_string(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![Source::file(path).with_companions(companions_of(path))]);
    }
    if is_source_folder(path) {
        return Ok(vec![Source::file(path)]);
    }
    // `walk` skips folders that cannot be read, so check this one first.
    fs::read_dir(path).map_err(io)?;
    let mut files = Vec::new();
    walk(path, 0, &mut files);
    files.sort();
    let known: BTreeSet<PathBuf> = files.iter().cloned().collect();
    let mut companions: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut transcripts = Vec::new();
    for file in files {
        match owner_of(&file, &known) {
            Some(owner) if is_subagent(&file) => companions.entry(owner).or_default().push(file),
            // The reader finds the other files by itself: metadata of subagents and long tool results.
            Some(_) => {}
            None => transcripts.push(file),
        }
    }
    let candidates = transcripts.clone();
    let sources = transcripts.into_iter().filter_map(|file| {
        let companions = companions.remove(&file).unwrap_or_default();
        let source = Source::file(file).with_companions(companions);
        // Keep files that cannot be read or parsed, so that the import reports the reason.
        let wanted = detect(&source).map_or(true, |format| format.is_some()) || is_unparsable_json(&source);
        wanted.then_some(source)
    });
    let sources: Vec<Source> = sources.collect();
    let mut unread = std::iter::once(path.to_owned()).chain(candidates).map(Source::file);
    if sources.is_empty()
        && let Some(error) = unread.find_map(|source| unread_error(&source))
    {
        return Err(error);
    }
    Ok(sources)
}

/// The error for a source of a known format that hfs does not read.
fn unread_error(source: &Source) -> Option<ImportError> {
    Some(UnreadFormat::of(&FormatProbe::new(source).ok()?)?.error(source))
}

/// The transcripts of the subagents that were started in the transcript `path`.
fn companions_of(path: &Path) -> Vec<PathBuf> {
    if !path.extension().is_some_and(|extension| extension == "jsonl" || extension == "json") {
        return Vec::new();
    }
    // The parent of a bare file name is an empty path, which `read_dir` rejects.
    let parent =
        path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folders = parent
        .map(Path::to_owned)
        .into_iter()
        .chain([path.with_extension("").join("subagents")])
        .chain(crate::readers::qwen::subagents_of(path));
    let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flat_map(Iterator::flatten);
    let is_agent = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("agent") && is_subagent(file)
    };
    let mut agents: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_agent).collect();
    let known = BTreeSet::from([path.to_owned()]);
    agents.retain(|file| file != path && owner_of(file, &known).is_some());
    agents.sort();
    agents
}

/// Whether a file that belongs to a session is a transcript.
fn is_subagent(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "jsonl") || crate::readers::cline::is_subagent(file)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if is_source_folder(&path) {
                files.push(path);
            } else if depth < MAX_DEPTH {
                walk(&path, depth + 1, files);
            }
        } else if path
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
        {
            files.push(path);
        }
    }
}

/// Whether a file has a JSON extension, but contains no JSON. Such a file is more likely a damaged transcript
/// than a file of another program.
fn is_unparsable_json(source: &Source) -> bool {
    let json = source
        .path()
        .and_then(Path::extension)
        .is_some_and(|extension| extension == "jsonl" || extension == "json");
    json && source.bytes() > 0 && FormatProbe::new(source).is_ok_and(|probe| probe.is_unparsable())
}

/// Whether a reader imports the folder as a single source, such as opencode's storage folder.
fn is_source_folder(folder: &Path) -> bool {
    detect(&Source::file(folder)).is_ok_and(|format| format.is_some())
}

/// Finds the transcript in `known` whose session includes `file`, such as the transcript of a subagent. Claude
/// Code stores the files of a session in a folder named after it; older versions store the transcripts of
/// subagents next to the session's transcript.
fn owner_of(file: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?;
    let others = [crate::readers::qwen::owner_of(file), crate::readers::cline::owner_of(file)];
    if let Some(owner) = others.into_iter().flatten().find(|owner| known.contains(owner) && owner != file) {
        return Some(owner);
    }
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
