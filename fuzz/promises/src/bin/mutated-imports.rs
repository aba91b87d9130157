//! Imports mutated transcripts with the binary, as a user would: `mutated-imports HFS FILES SEED [FOLDER...]`.
//!
//! Takes the seeds of all readers and the transcripts in the folders, mutates bytes, records and JSON structure, and
//! imports the results in batches into one store. Fails if an import panics, is killed, takes too long or too much
//! memory, does not account for a file, or if the store does not verify at the end. The input is saved in that case.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fuzz_promises::{TARGETS, fuzz_folder, mutate};
use serde_json::Value;

/// Files that are imported by one process.
const BATCH: usize = 200;
/// A batch that takes longer contains a file whose reader is not linear.
const BATCH_TIME: Duration = Duration::from_secs(60);
const FILE_TIME: Duration = Duration::from_secs(10);
/// Limit for the resident memory of one import, in KiB.
const MEMORY: u64 = 300 << 10;
/// Larger transcripts are cut after a record, so that one mutation matters.
const MAX_SOURCE: usize = 48 << 10;
/// Databases are not cut.
const MAX_DATABASE: u64 = 512 << 10;

/// A transcript to mutate.
struct Original {
    extension: String,
    bytes: Vec<u8>,
    is_database: bool,
}

/// What an import of a batch did.
struct Outcome {
    problem: Option<String>,
    imported: u64,
    skipped: u64,
    failed: u64,
    memory: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, files, seed, folders @ ..] = arguments.as_slice() else {
        return Err("expected the binary, the number of files and a seed".into());
    };
    let (files, seed): (usize, u64) = (files.parse()?, seed.parse()?);
    let originals = originals(folders)?;
    let work = tempfile::tempdir()?;
    let home = work.path().join("home");
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let (mut imported, mut skipped, mut failed, mut memory, mut done) = (0, 0, 0, 0, 0);
    while done < files {
        let folder = work.path().join("batch");
        fs::create_dir(&folder)?;
        let count = BATCH.min(files - done);
        for number in 0..count {
            let original = rng.choice(&originals).ok_or("there are no transcripts to mutate")?;
            let bytes = mutated(original, &originals, &mut rng);
            fs::write(folder.join(format!("{:06}.{}", done + number, original.extension)), bytes)?;
        }
        let outcome = import(Path::new(binary), &home, &folder, BATCH_TIME, count)?;
        if let Some(problem) = outcome.problem {
            return report(Path::new(binary), work.path(), &folder, &problem);
        }
        imported += outcome.imported;
        skipped += outcome.skipped;
        failed += outcome.failed;
        memory = memory.max(outcome.memory);
        done += count;
        fs::remove_dir_all(&folder)?;
    }
    let verify =
        Command::new(binary).arg("--home").arg(&home).args(["store", "verify", "--json"]).output()?;
    let verified: Value = serde_json::from_slice(&verify.stdout).unwrap_or_default();
    if verified.get("ok").and_then(Value::as_bool) != Some(true) {
        eprintln!("the store does not verify: {verified}");
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "seed {seed}: {done} mutated files of {} transcripts in {} s: {imported} sessions imported, {skipped} files skipped, \
         {failed} failed; no panic, no time-out, at most {} MB; the store verifies",
        originals.len(),
        started.elapsed().as_secs(),
        memory >> 10
    );
    Ok(ExitCode::SUCCESS)
}

/// The seeds of all readers and the transcripts in the folders.
fn originals(folders: &[String]) -> io::Result<Vec<Original>> {
    let mut originals = Vec::new();
    for target in TARGETS.iter().filter(|target| !["events", "binary_delta"].contains(&target.name)) {
        let seeds = target.seeds()?.into_iter();
        originals.extend(seeds.map(|bytes| Original {
            extension: "jsonl".into(),
            bytes,
            is_database: false,
        }));
    }
    let mut pending: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = pending.pop() {
        let mut entries = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::path);
        for entry in entries {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                pending.push(path);
                continue;
            }
            let extension =
                path.extension().and_then(|extension| extension.to_str()).unwrap_or("txt").to_owned();
            let is_database = ["db", "sqlite"].contains(&extension.as_str());
            if is_database && entry.metadata()?.len() > MAX_DATABASE {
                continue;
            }
            let mut bytes = fs::read(&path)?;
            if !is_database && bytes.len() > MAX_SOURCE {
                let end =
                    bytes.iter().take(MAX_SOURCE).rposition(|byte| *byte == b'\n').unwrap_or(MAX_SOURCE);
                bytes.truncate(end + 1);
            }
            originals.push(Original { extension, bytes, is_database });
        }
    }
    Ok(originals)
}

fn mutated(original: &Original, all: &[Original], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = original.bytes.clone();
    if original.is_database {
        for _ in 0..rng.usize(1..20) {
            let at = rng.usize(..bytes.len().max(1));
            bytes.iter_mut().skip(at).take(rng.usize(1..16)).for_each(|byte| *byte = rng.u8(..));
        }
        if rng.u8(..8) == 0 {
            bytes.truncate(rng.usize(..bytes.len().max(1)));
        }
        return bytes;
    }
    match rng.u8(..4) {
        0 => {
            let seeds = [bytes, rng.choice(all).map(|other| other.bytes.clone()).unwrap_or_default()];
            let choices: Vec<u8> =
                std::iter::once(0).chain((0..rng.usize(4..40)).map(|_| rng.u8(..))).collect();
            mutate(&seeds, &choices)
        }
        1 => mutate_records(&bytes, rng),
        _ => mutate_structure(&bytes, rng),
    }
}

/// Removes, repeats and swaps lines.
fn mutate_records(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for _ in 0..rng.usize(1..6) {
        if lines.is_empty() {
            break;
        }
        let (at, other) = (rng.usize(..lines.len()), rng.usize(..lines.len()));
        match rng.u8(..4) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines.get(other).copied().unwrap_or_default()),
            2 => lines.swap(at, other),
            _ => lines.truncate(at + 1),
        }
    }
    lines.concat()
}

/// Changes values in the JSON of one record, or of the whole document.
fn mutate_structure(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    if let Ok(mut document) = serde_json::from_slice::<Value>(bytes) {
        for _ in 0..rng.usize(1..5) {
            mutate_value(&mut document, rng);
        }
        return document.to_string().into_bytes();
    }
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..lines.len().max(1));
        if let Some(line) = lines.get_mut(at)
            && let Ok(mut record) = serde_json::from_slice::<Value>(line)
        {
            mutate_value(&mut record, rng);
            *line = record.to_string().into_bytes();
        }
    }
    lines.join(&b'\n')
}

/// Replaces, removes or moves one value somewhere in a JSON value.
fn mutate_value(value: &mut Value, rng: &mut Rng) {
    let stops = rng.u8(..4) == 0;
    match value {
        Value::Object(fields) if !fields.is_empty() && !stops => {
            let at = rng.usize(..fields.len());
            let Some(name) = fields.keys().nth(at).cloned() else { return };
            match rng.u8(..12) {
                0 => {
                    fields.remove(&name);
                }
                1 => {
                    if let Some(moved) = fields.remove(&name) {
                        fields.insert("\u{fffd}renamed".into(), moved);
                    }
                }
                _ => {
                    if let Some(next) = fields.get_mut(&name) {
                        mutate_value(next, rng);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() && !stops => {
            let at = rng.usize(..items.len());
            match rng.u8(..12) {
                0 => {
                    items.remove(at);
                }
                1 => {
                    let other = rng.usize(..items.len());
                    items.swap(at, other);
                }
                2 => {
                    let copy = items.get(at).cloned().unwrap_or_default();
                    items.push(copy);
                }
                _ => {
                    if let Some(next) = items.get_mut(at) {
                        mutate_value(next, rng);
                    }
                }
            }
        }
        _ => *value = replacement(value, rng),
    }
}

/// A value of another type or an extreme value of the same type.
fn replacement(value: &Value, rng: &mut Rng) -> Value {
    match rng.u8(..12) {
        0 => Value::Null,
        1 => true.into(),
        2 => (-1).into(),
        3 => u64::MAX.into(),
        4 => 1e308.into(),
        5 => "".into(),
        6 => "x".repeat(70_000).into(),
        7 => Value::Array(vec![value.clone(); 3]),
        8 => Value::Object([("type".to_owned(), value.clone())].into_iter().collect()),
        9 => "\u{1b}[31m\u{202e}\0../../etc/passwd".into(),
        10 => (0..200).fold(value.clone(), |inner, _| Value::Array(vec![inner])),
        _ => "9999-99-99T99:99:99Z".into(),
    }
}

fn import(
    binary: &Path,
    home: &Path,
    path: &Path,
    time: Duration,
    files: usize,
) -> Result<Outcome, Box<dyn Error>> {
    let output = path.with_extension("out");
    let errors = path.with_extension("err");
    let mut child = Command::new(binary)
        .arg("--home")
        .arg(home)
        .args(["import", "--json"])
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output)?)
        .stderr(fs::File::create(&errors)?)
        .spawn()?;
    let (status, memory) = wait(&mut child, time)?;
    let document: Value = serde_json::from_slice(&fs::read(&output)?).unwrap_or_default();
    let errors = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
    let count =
        |name: &str| document.get(name).and_then(Value::as_array).map_or(0, |items| items.len() as u64);
    let (imported, skipped, failed) = (count("imported"), count("skipped"), count("failed"));
    let named = |name: &str| {
        let items = document.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        items.into_iter().filter_map(|item| item.get("file")?.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut accounted: Vec<String> = ["imported", "skipped", "failed"].into_iter().flat_map(named).collect();
    accounted.sort();
    accounted.dedup();
    let problem = match status {
        None => Some(format!("takes longer than {} s", time.as_secs())),
        Some(status) if status.code().is_none() || status.code() == Some(101) => {
            Some(format!("ends with {status}: {errors}"))
        }
        Some(status) if !matches!(status.code(), Some(0 | 6)) => {
            Some(format!("ends with {status}: {errors}"))
        }
        Some(_) if errors.contains("panicked") => Some(errors),
        Some(_) if memory > MEMORY => Some(format!("takes {} MB of memory", memory >> 10)),
        Some(_) if path.is_dir() && accounted.len() < files => {
            Some(format!("accounts for {} of {files} files", accounted.len()))
        }
        Some(_) => None,
    };
    Ok(Outcome { problem, imported, skipped, failed, memory })
}

/// Waits for a process and returns its status and its peak of resident memory in KiB. Kills it when the time is up.
fn wait(child: &mut Child, time: Duration) -> io::Result<(Option<std::process::ExitStatus>, u64)> {
    let started = Instant::now();
    let status_file = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    loop {
        let status = fs::read_to_string(&status_file).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        memory = memory.max(peak.unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            return Ok((Some(status), memory));
        }
        if started.elapsed() > time {
            child.kill()?;
            child.wait()?;
            return Ok((None, memory));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Finds the file of a batch that causes the problem, and saves it.
fn report(binary: &Path, work: &Path, folder: &Path, problem: &str) -> Result<ExitCode, Box<dyn Error>> {
    let artifacts = fuzz_folder().join("artifacts").join("imports");
    fs::create_dir_all(&artifacts)?;
    let mut paths =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let home = work.join("single");
        let outcome = import(binary, &home, &path, FILE_TIME, 1)?;
        let _ = fs::remove_dir_all(&home);
        if let Some(problem) = outcome.problem {
            let saved = artifacts.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &saved)?;
            eprintln!("the import of {} {problem}", saved.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    eprintln!("the import of a batch {problem}, but that of each file succeeds");
    Ok(ExitCode::FAILURE)
}
