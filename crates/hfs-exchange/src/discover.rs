//! Finds the transcripts in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;

use crate::decompress::{find_file, uncompressed_path};
use crate::detect::FormatProbe;
use crate::readers::codex;
use crate::readers::conversation::regular_files;
use crate::unread::UnreadFormat;
use crate::{Format, Source, detect};

/// Maximum depth of subfolders. Paths of more would exceed limits of the operating system.
const MAX_DEPTH: usize = 64;
/// Extensions of files that may contain transcripts.
const EXTENSIONS: [&str; 11] =
    ["jsonl", "vscdb", "json", "zst", "gz", "db", "sqlite", "sqlite3", "md", "zip", "ndjson"];
/// Folders with the other files of a session of Claude Code, in the folder named after the session.
const SESSION_FOLDERS: [&str; 2] = ["subagents", "tool-results"];

/// The files of a folder.
#[derive(Debug, Default)]
pub struct Discovery {
    /// The transcripts, sorted by path.
    pub sources: Vec<Source>,
    /// All other files, sorted by path.
    pub skipped: Vec<SkippedFile>,
    /// The folder and its subfolders, as far as they were searched.
    pub folders: Vec<PathBuf>,
}

/// A file that is not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// Path of the file or folder.
    pub path: PathBuf,
    /// Why it is not imported.
    pub reason: UnreadReason,
}

/// Why a file in a folder is not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnreadReason {
    /// It is a symbolic link, which may lead out of the folder.
    Link,
    /// It is a FIFO, a socket or a device.
    Special,
    /// It is a folder that cannot be read.
    Unreadable(String),
    /// It is a folder that is nested too deeply.
    TooDeep,
    /// It is empty.
    Empty,
    /// It belongs to the session in this transcript.
    PartOf(PathBuf),
    /// This program wrote it, in a format that hfs does not read.
    KnownFormat(&'static str),
    /// It is not a transcript.
    NotATranscript,
}

impl fmt::Display for UnreadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("it is a symbolic link"),
            Self::Special => f.write_str("it is not a regular file"),
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::TooDeep => f.write_str("it is nested too deeply"),
            Self::Empty => f.write_str("it is empty"),
            Self::PartOf(owner) => write!(f, "it belongs to {}", owner.display()),
            Self::KnownFormat(tool) => write!(f, "{tool} wrote it, in a format that hfs does not read"),
            Self::NotATranscript => f.write_str("it is not a transcript"),
        }
    }
}

/// Finds the transcripts in a folder. If `path` is a file, returns that file without checking its contents.
///
/// The transcript of a subagent is returned as a companion of the transcript that started it. Symbolic links in the folder are
/// not followed, and only regular files are opened.
///
/// # Errors
/// Returns an error if `path` itself cannot be read, and one that names the program that wrote the files if the
/// folder has only files of a format that hfs does not read.
pub fn discover(path: &Path) -> Result<Discovery, ImportError> {
    discover_unless_known(path, |_| false)
}

/// Like [`discover`], but returns the files for which `is_known` returns true without opening them.
///
/// # Errors
/// Returns an error if `path` itself cannot be read, and one that names the program that wrote the files if the
/// folder has only files of a format that hfs does not read.
pub fn discover_unless_known(
    path: &Path,
    is_known: impl Fn(&Source) -> bool,
) -> Result<Discovery, ImportError> {
    let io = |source| ImportError::Io { path: path.display().to_string(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        let source = Source::file(path).with_companions(companions_of(path));
        return Ok(Discovery { sources: vec![source], ..Discovery::default() });
    }
    if is_source_folder(path) {
        return Ok(Discovery { sources: vec![Source::file(path)], ..Discovery::default() });
    }
    // `walk` records folders that cannot be read as skipped, so check this one first.
    fs::read_dir(path).map_err(io)?;
    let mut discovery = Discovery::default();
    let mut files = Vec::new();
    walk(path, 0, &mut files, &mut discovery);
    files.sort();
    let known: BTreeSet<PathBuf> = files.iter().cloned().collect();
    let mut companions: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut candidates = Vec::new();
    for file in files {
        match owner_of(&file, &known) {
            Some(owner) if is_subagent(&file) || is_chat_of_subagent(&file) => {
                companions.entry(owner).or_default().push(file);
            }
            // The reader finds the other files by itself: metadata of subagents and long tool results.
            Some(owner) => discovery.skip(file, UnreadReason::PartOf(owner)),
            None => candidates.push(file),
        }
    }
    // The rollouts, and whether each is known, which is determined once: it reads the file.
    let mut rollouts = BTreeMap::new();
    let mut owners = codex_owners(&candidates, |file| {
        let source = Source::found(file);
        let is_known = is_known(&source);
        rollouts.insert(file.to_owned(), (source, is_known));
        is_known
    });
    candidates.retain(|file| match owners.remove(file) {
        Some(owner) => {
            companions.entry(owner).or_default().push(file.clone());
            false
        }
        None => true,
    });
    for file in candidates {
        let companions = companions.remove(&file).unwrap_or_default();
        let rollout = rollouts.remove(&file).filter(|_| companions.is_empty());
        let (source, is_known) = rollout.unwrap_or_else(|| {
            let source = Source::found(&file).with_companions(companions);
            let is_known = is_known(&source);
            (source, is_known)
        });
        let reason = if is_known { None } else { reason_to_skip(&source) };
        match reason {
            Some(reason) => discovery.skip(file, reason),
            None => discovery.sources.push(source),
        }
    }
    if discovery.sources.is_empty() {
        let skipped = discovery
            .skipped
            .iter()
            .filter(|skipped| !matches!(skipped.reason, UnreadReason::Link | UnreadReason::Special));
        let mut unread = std::iter::once(path.to_owned()).chain(skipped.map(|skipped| skipped.path.clone()));
        if let Some(error) = unread.find_map(|path| unread_error(&Source::found(path))) {
            return Err(error);
        }
    }
    discovery.skipped.sort_by(|first, second| first.path.cmp(&second.path));
    Ok(discovery)
}

impl Discovery {
    fn skip(&mut self, path: PathBuf, reason: UnreadReason) {
        self.skipped.push(SkippedFile { path, reason });
    }
}

/// Why a file is not imported. `None` if it is a transcript, or if the import has to report what is wrong with it.
fn reason_to_skip(source: &Source) -> Option<UnreadReason> {
    let path = source.path()?;
    if path.is_dir() {
        return None;
    }
    if !has_extension(path, &EXTENSIONS) {
        return Some(UnreadReason::NotATranscript);
    }
    if source.bytes() == 0 {
        return Some(UnreadReason::Empty);
    }
    match detect(source) {
        Ok(Some(_)) | Err(_) => None,
        Ok(None) => {
            let probe = FormatProbe::new(source).ok()?;
            if let Some(format) = UnreadFormat::of(&probe) {
                return Some(UnreadReason::KnownFormat(format.tool));
            }
            // A file that contains no JSON in spite of its extension is more likely a damaged transcript than a file of
            // another program.
            let is_damaged = probe.is_unparsable()
                && (has_extension(path, &["jsonl"])
                    || has_extension(path, &["json"]) && !probe.has_comments());
            let is_damaged = is_damaged || probe.database_damage().is_some();
            (!is_damaged && !probe.has_conversation()).then_some(UnreadReason::NotATranscript)
        }
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Whether a file has the name of a subagent's transcript.
fn is_subagent(file: &Path) -> bool {
    let file = &uncompressed_path(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("agent-") && name.ends_with(".jsonl") || crate::readers::cline::is_subagent(file)
}

/// The rollouts of Codex's subagents among these files, each with the rollout of the session that they belong to. A file that `is_known`
/// is a session of its own.
fn codex_owners(files: &[PathBuf], mut is_known: impl FnMut(&Path) -> bool) -> BTreeMap<PathBuf, PathBuf> {
    let rollouts: BTreeMap<String, &PathBuf> =
        files.iter().filter_map(|file| Some((codex::thread_of(file)?, file))).collect();
    let mut parent_of = |file: &PathBuf| {
        let parent = if is_known(file) { None } else { codex::parent_thread(file) }?;
        rollouts.get(&parent).copied().filter(|parent| *parent != file)
    };
    let parents: BTreeMap<&PathBuf, &PathBuf> =
        rollouts.values().filter_map(|file| Some((*file, parent_of(file)?))).collect();
    let root_of = |file: &PathBuf| {
        let mut root = *parents.get(file)?;
        // Damaged files may form a cycle.
        for _ in 0..parents.len() {
            match parents.get(root) {
                Some(parent) => root = parent,
                None => return Some((file.clone(), root.clone())),
            }
        }
        None
    };
    parents.keys().filter_map(|file| root_of(file)).collect()
}

/// The error for a source of a known format that hfs does not read.
fn unread_error(source: &Source) -> Option<ImportError> {
    Some(UnreadFormat::of(&FormatProbe::new(source).ok()?)?.error(source))
}

/// The transcripts of the subagents that were started in the transcript `path`.
fn companions_of(path: &Path) -> Vec<PathBuf> {
    let transcript = uncompressed_path(path);
    if codex::thread_of(path).is_some() {
        return codex_subagents(path);
    }
    if !transcript.extension().is_some_and(|extension| extension == "jsonl" || extension == "json") {
        return Vec::new();
    }
    // The parent of a bare file name is an empty path, which `read_dir` rejects.
    let parent =
        path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let entries = parent.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let session = transcript.with_extension("");
    let mut folders = vec![Some(session.join("subagents")), crate::readers::qwen::subagents_of(&transcript)];
    let is_chat = parent.and_then(Path::file_name).is_some_and(|name| name == "chats");
    let mut files = Vec::new();
    for entry in entries {
        match entry.file_type() {
            Ok(found) if found.is_file() => files.push(entry.path()),
            // The chats of subagents of Gemini CLI are in folders named after the session.
            Ok(found) if found.is_dir() && is_chat => folders.push(Some(entry.path())),
            _ => {}
        }
    }
    for folder in folders.into_iter().flatten() {
        if is_real_folder(&folder) && folder.parent().is_some_and(is_real_folder) {
            walk(&folder, 0, &mut files, &mut Discovery::default());
        }
    }
    files.retain(|file| is_subagent(file) || is_chat_of_subagent(file));
    let known = BTreeSet::from([path.to_owned(), without_current_folder(path)]);
    files.retain(|file| file != path && owner_of(&without_current_folder(file), &known).is_some());
    files.sort();
    files
}

/// The rollouts of the subagents of a session of Codex, in the same folder. Names begin with the time, so those of subagents follow.
fn codex_subagents(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = regular_files(folder, &["jsonl", "zst", "gz"]);
    files.retain(|file| file.file_name() > path.file_name() && codex::thread_of(file).is_some());
    files.push(path.to_owned());
    let owners = codex_owners(&files, |file| file == path);
    owners.into_iter().filter(|(_, owner)| owner == path).map(|(file, _)| file).collect()
}

fn is_real_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The path without a leading `./`.
fn without_current_folder(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

/// Collects the regular files, and the folders that a reader imports as a whole.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, discovery: &mut Discovery) {
    discovery.folders.push(folder.to_owned());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            discovery.skip(folder.to_owned(), UnreadReason::Unreadable(error.to_string()));
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let reason = match entry.file_type() {
            Ok(found) if found.is_file() || found.is_dir() && is_source_folder(&path) => {
                files.push(path);
                continue;
            }
            Ok(found) if found.is_dir() && depth < MAX_DEPTH => {
                walk(&path, depth + 1, files, discovery);
                continue;
            }
            Ok(found) if found.is_dir() => UnreadReason::TooDeep,
            Ok(found) if found.is_symlink() => UnreadReason::Link,
            Ok(_) => UnreadReason::Special,
            Err(error) => UnreadReason::Unreadable(error.to_string()),
        };
        discovery.skip(path, reason);
    }
}

/// Whether a reader imports the folder as a single source, such as opencode's storage folder.
fn is_source_folder(folder: &Path) -> bool {
    detect(&Source::file(folder)).is_ok_and(|format| format.is_some())
}

/// Finds the transcript in `known` whose session includes `file`, such as the transcript of a subagent. Claude
/// Code stores the files of a session in a folder named after it, with those of a workflow in subfolders; older versions
/// store the transcripts of subagents next to the session's transcript.
fn owner_of(file: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let folder = file.parent()?;
    let others = [crate::readers::qwen::owner_of(file), crate::readers::cline::owner_of(file)];
    let mut owners = others.into_iter().flatten().filter_map(|owner| find_file(known, &owner));
    if let Some(owner) = owners.find(|owner| owner != file) {
        return Some(owner);
    }
    // The database of opencode is read together with the older storage folder beside it.
    if file.file_name()? == "storage" {
        let database = folder.join("opencode.db");
        return known.contains(&database).then_some(database);
    }
    for folder in folder.ancestors() {
        if folder.file_name().is_some_and(|name| SESSION_FOLDERS.iter().any(|known| name == *known)) {
            let session = folder.parent()?;
            let owner = session.with_file_name(format!("{}.jsonl", session.file_name()?.to_str()?));
            if let Some(owner) = find_file(known, &owner) {
                return Some(owner);
            }
        }
    }
    if !is_subagent(file) {
        return gemini_owner(folder, known);
    }
    let probe = FormatProbe::new(&Source::found(file)).ok()?;
    let session =
        probe.records().iter().find_map(|record| record.get("sessionId")?.as_str().map(str::to_owned))?;
    let owner = find_file(known, &folder.join(format!("{session}.jsonl")))?;
    (owner != file && detect(&Source::file(&owner)).ok()? == Some(Format::ClaudeCode)).then_some(owner)
}

/// Whether a file has the place of a subagent's chat of Gemini CLI.
fn is_chat_of_subagent(file: &Path) -> bool {
    let chats = file.parent().and_then(Path::parent).and_then(Path::file_name);
    chats.is_some_and(|name| name == "chats")
}

/// The chat of Gemini CLI whose subagents have their chats in this folder, which is named after the session. The name of
/// the owner ends with the first characters of the session's id.
fn gemini_owner(folder: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let session = folder.file_name()?.to_str()?;
    let chats = folder.parent().filter(|chats| chats.file_name().is_some_and(|name| name == "chats"))?;
    let beginning: String = session.chars().take(8).collect();
    let is_owner = |file: &&PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        file.parent() == Some(chats)
            && stem.ends_with(&beginning)
            && FormatProbe::new(&Source::found(file)).is_ok_and(|probe| {
                let header = probe.records().first().or(probe.first_object());
                header.and_then(|header| header.get("sessionId")?.as_str()) == Some(session)
            })
    };
    known.range(chats.to_owned()..).take_while(|file| file.starts_with(chats)).find(is_owner).cloned()
}
