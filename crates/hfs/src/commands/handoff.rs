//! `hfs handoff`: places a session where another tool looks for it, and prints the command that continues it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hfs_core::{ErrorKind, Session};
use hfs_exchange::{Format, InstallPath, TranscriptOptions, install_path, write_transcript};
use hfs_files::TemporaryFile;
use serde::Serialize;
use serde_json::Value;

use super::export::{cli_error, transcript_note};
use super::start::location_overrides;
use crate::context::Context;
use crate::environment::Environment;
use crate::home::create_private_dir;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::resolve::find_branch;
use crate::wiring::document::StoreDocument;

const EXAMPLES: &str = "\
Examples:
  hfs handoff @ claude                      continue the newest session in Claude Code
  hfs handoff login codex --branch idea     continue a branch of a session in Codex

The tool continues a copy. `hfs import` adds what was said there to the same session, on the same branch.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct HandoffArgs {
    /// The session
    session: String,
    /// The tool that continues it
    #[arg(value_enum)]
    tool: Tool,
    /// Continue this branch instead of the current one
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
}

/// A tool that can continue a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// Claude Code
    #[value(alias = "claude-code")]
    Claude,
    /// Codex
    Codex,
    /// opencode
    #[value(name = "opencode")]
    OpenCode,
}

impl Tool {
    const fn format(self) -> Format {
        match self {
            Self::Claude => Format::ClaudeCode,
            Self::Codex => Format::Codex,
            Self::OpenCode => Format::OpenCode,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
        }
    }
}

/// Document of `handoff`.
#[derive(Serialize)]
struct HandoffJson {
    tool: &'static str,
    path: String,
    /// A line for a shell, to be run in `directory`.
    command: String,
    directory: String,
}

pub fn run(args: &HandoffArgs, context: &Context) -> Result<Outcome, CliError> {
    let session = context.session(&args.session)?;
    let mut document = StoreDocument::new(context.store()?.as_ref(), session)?;
    if let Some(reference) = &args.branch {
        document = document.on_branch(find_branch(&context.store()?.list_branches(session)?, reference)?.id);
    }
    let document = document.without_undone();
    let directory = directory(document.session_record(), context);
    let document = document.in_directory(text_of(&directory)?.to_owned());
    let record = document.session_record();
    let install = install(args.tool, record, context)?;
    let folder = install.folder.clone().unwrap_or_else(|| context.home.exports());
    let path = folder.join(&install.name);
    let action = || format!("write {}", path.display());
    create_private_dir(&folder).map_err(|error| CliError::io(action(), error))?;

    let model = opencode_model(&context.environment, Some(&directory));
    let options = TranscriptOptions {
        opencode_model: model.as_deref(),
        is_resumed: true,
        ..TranscriptOptions::default()
    };
    // Tools ignore this file, because of its name.
    let file = TemporaryFile::create_in(&folder).map_err(|error| CliError::io(action(), error))?;
    let mut file = BufWriter::new(file);
    let report = write_transcript(&document, args.tool.format(), options, &mut file)
        .map_err(|error| cli_error(error, action()))?;
    let file = file.into_inner().map_err(|error| CliError::io(action(), error.into_error()))?;
    file.sync().map_err(|error| CliError::io(action(), error))?;
    check_existing(args.tool, &path, file.path())?;
    file.persist(&path).map_err(|error| CliError::io(action(), error))?;

    let command = shell_command(&install, &path).ok_or_else(|| not_text(&path))?;
    let console = &context.console;
    if let Some(note) = transcript_note(&report) {
        console.note(&note);
    }
    let (path, directory) = (text_of(&path)?.to_owned(), text_of(&directory)?.to_owned());
    if console.options.json {
        console.print_json(&HandoffJson { tool: args.tool.as_str(), path, command, directory })?;
        return Ok(Outcome::Done);
    }
    console.note(&format!("{} written", sanitize::line(&path)));
    let quoted = shell_quote(&directory).ok_or_else(|| not_text(Path::new(&directory)))?;
    console.print(&format!("cd {quoted} && {command}\n"))?;
    Ok(Outcome::Done)
}

/// The directory to start the tool in: the session's, unless it is not on this machine. Tools resolve symbolic links
/// before they look for the sessions of a directory.
fn directory(session: &Session, context: &Context) -> PathBuf {
    let project = session.project.as_ref().map(|project| PathBuf::from(&project.directory));
    let here = &context.environment.working_directory;
    match project.map(|project| (fs::canonicalize(&project), project)) {
        Some((Ok(directory), _)) if directory.is_dir() => directory,
        Some((_, project)) => {
            let project = sanitize::line(&project.display().to_string());
            context.console.note(&format!("the session's directory {project} is not on this machine"));
            fs::canonicalize(here).unwrap_or_else(|_| here.clone())
        }
        None => fs::canonicalize(here).unwrap_or_else(|_| here.clone()),
    }
}

fn install(tool: Tool, session: &Session, context: &Context) -> Result<InstallPath, CliError> {
    let home = context.environment.user_home.as_deref();
    let overrides = location_overrides(&context.environment);
    home.and_then(|home| install_path(tool.format(), session, home, &overrides)).ok_or_else(|| {
        CliError::Custom {
            kind: ErrorKind::NotFound,
            message: format!("cannot find the sessions of {}: there is no home directory", tool.as_str()),
            hint: Some("set HOME".into()),
        }
    })
}

fn not_text(path: &Path) -> CliError {
    let message = format!("{} is not a path that a shell command can contain", path.display());
    CliError::new(ErrorKind::Invalid, message)
}

fn text_of(path: &Path) -> Result<&str, CliError> {
    path.to_str().ok_or_else(|| not_text(path))
}

/// Refuses to replace a transcript with messages that are not in the new one: what the tool added since the last import.
fn check_existing(tool: Tool, existing: &Path, new: &Path) -> Result<(), CliError> {
    let key = match tool {
        Tool::Claude => claude_key,
        Tool::Codex => codex_key,
        // `opencode import` keeps what opencode has.
        Tool::OpenCode => return Ok(()),
    };
    let mut unknown = HashSet::new();
    let is_written_by_hfs = |record: &Value| record.get("hfs").is_some();
    let found = for_each_line(existing, &mut |record| {
        unknown.extend(key(&record).filter(|_| !is_written_by_hfs(&record)));
    });
    match found {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::io(format!("read {}", existing.display()), error)),
    }
    for_each_line(new, &mut |record| {
        if let Some(key) = key(&record) {
            unknown.remove(&key);
        }
    })
    .map_err(|error| CliError::io(format!("read {}", new.display()), error))?;
    if unknown.is_empty() {
        return Ok(());
    }
    let path = text_of(existing)?;
    Err(CliError::Custom {
        kind: ErrorKind::Conflict,
        message: format!("{path} has messages that are not in this session"),
        hint: shell_quote(path).map(|path| format!("import them first: hfs import {path}")),
    })
}

/// Calls `visit` with each line that is JSON.
fn for_each_line(path: &Path, visit: &mut dyn FnMut(Value)) -> io::Result<()> {
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        if let Ok(record) = serde_json::from_slice::<Value>(&line?) {
            visit(record);
        }
    }
    Ok(())
}

/// Identifies a message of Claude Code; `None` for other records.
fn claude_key(record: &Value) -> Option<String> {
    let is_message = matches!(record.get("type")?.as_str()?, "user" | "assistant");
    is_message.then(|| record.get("uuid")?.as_str().map(str::to_owned)).flatten()
}

/// Identifies an item of Codex; `None` for other records. An export may replace ids of calls.
fn codex_key(record: &Value) -> Option<String> {
    let mut payload =
        record.get("payload").filter(|_| record.get("type") == Some(&"response_item".into()))?.clone();
    if let Some(fields) = payload.as_object_mut() {
        fields.shift_remove("call_id");
    }
    payload.sort_all_objects();
    Some(payload.to_string())
}

/// The command that continues an exported session, as a line for a shell; `None` if the path cannot be written as such.
pub fn shell_command(install: &InstallPath, path: &Path) -> Option<String> {
    let join = |arguments: &[String]| shlex::try_join(arguments.iter().map(String::as_str)).ok();
    let resume = join(&install.resume)?;
    Some(match &install.import {
        Some(import) => format!("{} {} && {resume}", join(import)?, shell_quote(path.to_str()?)?),
        None => resume,
    })
}

/// Quotes text for a shell; `None` if it contains characters that no shell accepts.
pub fn shell_quote(text: &str) -> Option<String> {
    let is_safe = text.chars().all(|c| !c.is_control());
    is_safe.then(|| shlex::try_quote(text).ok().map(Cow::into_owned)).flatten()
}

/// The model that opencode uses by default, as `PROVIDER/MODEL`: that of its configuration, else the one used last.
pub fn opencode_model(environment: &Environment, directory: Option<&Path>) -> Option<String> {
    let home = environment.user_home.as_deref()?;
    let folder = |variable: &str, default: &str| {
        environment.get(variable).map_or_else(|| home.join(default), PathBuf::from).join("opencode")
    };
    let config = folder("XDG_CONFIG_HOME", ".config");
    let directory = directory.unwrap_or(&environment.working_directory);
    let files = environment
        .get("OPENCODE_CONFIG")
        .map(PathBuf::from)
        .into_iter()
        .chain(["opencode.json", "opencode.jsonc"].map(|name| directory.join(name)))
        .chain(["opencode.json", "opencode.jsonc", "config.json"].map(|name| config.join(name)));
    let configured = files
        .filter_map(|file| read_json(&file))
        .find_map(|config| valid_model(config.get("model")?.as_str()?));
    configured.or_else(|| {
        let state = read_json(&folder("XDG_STATE_HOME", ".local/state").join("model.json"))?;
        let recent = state.get("recent")?.get(0)?;
        let text = |key| recent.get(key).and_then(Value::as_str);
        valid_model(&format!("{}/{}", text("providerID")?, text("modelID")?))
    })
}

/// Reads a small JSON file, which may have comments; `None` if it does not exist or is not valid.
fn read_json(path: &Path) -> Option<Value> {
    const MAX_BYTES: u64 = 1 << 20;
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    jsonc_parser::parse_to_serde_value(&text, &jsonc_parser::ParseOptions::default()).ok()
}

fn valid_model(model: &str) -> Option<String> {
    let (provider, name) = model.split_once('/')?;
    let is_valid = !provider.is_empty()
        && !name.is_empty()
        && model.chars().all(|c| !c.is_control() && !c.is_whitespace());
    is_valid.then(|| model.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_the_shell() {
        let install = InstallPath {
            folder: None,
            name: "ses_1.json".into(),
            import: Some(vec!["opencode".into(), "import".into()]),
            resume: vec!["opencode".into(), "--session".into(), "ses_1".into()],
        };
        let command = |path: &str| shell_command(&install, Path::new(path));
        assert_eq!(command("/a/b.json").unwrap(), "opencode import /a/b.json && opencode --session ses_1");
        let hostile = "/tmp/$(touch x)/it's `id`; rm -rf ~/\"a\".json";
        let line = command(hostile).unwrap();
        let words = shlex::split(&line).unwrap();
        assert_eq!(words, ["opencode", "import", hostile, "&&", "opencode", "--session", "ses_1"]);
        assert_eq!(command("/tmp/a\nb"), None);
    }
}
