//! The code blocks of the README and of the pages in `docs/`.
//!
//! Shell blocks are typed, page by page and in order, in a home with transcripts of two other tools. Configurations,
//! manifests and plugins are given to the binary, JSON is parsed, and output is compared. The first words after the fence
//! say what a block is:
//!
//! | block | what happens |
//! |---|---|
//! | `sh` | every line is typed; lines that start with `cargo` or `.ci` are checked by xtask |
//! | `text output` | must be part of what the block before it printed |
//! | `yaml config`, `yaml triads`, `yaml manifest` | read by the binary |
//! | `python`, `javascript` | the file of a plugin, which `hfs plugin check` calls |
//! | `sql`, `ini` | run by the tests `postgres`, on a server |
//! | `json` | parsed; a program `hfs` in it is called with its arguments and `--help` |
//! | `text` | a diagram |
//!
//! What cannot run here has a mark, an HTML comment before the block, with a reason in parentheses. Without a command, the
//! mark is for the whole block:
//!
//! ```text
//! <!-- not run: hfs watch --install (starts a service of the user) -->
//! <!-- not run: (needs neovim) -->
//! <!-- with --yes: hfs session delete login --purge -->
//! ```
#![allow(clippy::print_stdout, reason = "a skipped test prints the reason")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use hfs_plugins::Language;
use regex::Regex;
use serde_json::{Value, json};
use testkit::acp_agent::ScriptedProgram;
use testkit::cli::Hfs;
use testkit::model_server::{ModelServer, Protocol, well_formed_answer};

use crate::agents::{AGENT_TEST, chunk};
use crate::plugin_fixture::interpreters;

/// Number of lines and blocks in all pages that are not run. It changes with each that is added.
const NOT_RUN: usize = 16;

/// Commands that are typed before those of a page.
const PREPARATION: &[(&str, &[&str])] = &[
    (
        "docs/sessions.md",
        &[
            "hfs chat 'Why did the login fail?'",
            "hfs chat -c 'And the cart?'",
            "hfs chat -c 'Could it happen again?'",
            "hfs chat -c 'Which clock was wrong?'",
            "hfs session rename @ login",
        ],
    ),
    ("docs/machines.md", &["hfs chat 'Why did the login fail?'"]),
    ("docs/search.md", &["hfs import ~/.claude ~/.codex"]),
    ("docs/memory.md", &["hfs import ~/.claude ~/.codex"]),
];

/// A page whose indented blocks are diagrams.
const DIAGRAMS: &str = "ARCHITECTURE.md";

/// Precedes the output of each line.
const LINE_MARK: &str = "@@@@ line ";

#[derive(Debug)]
struct Block {
    page: String,
    /// Of its fence, from 1.
    line: usize,
    /// The words after the fence.
    kind: String,
    text: String,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq)]
enum Mark {
    /// A line, or with an empty text the whole block.
    NotRun(String),
    /// A line that asks on a terminal.
    WithYes(String),
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    fn is_run(&self) -> bool {
        !self.marks.contains(&Mark::NotRun(String::new()))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Markdown files of the repository, relative to its root.
fn pages() -> Vec<String> {
    let mut folders = vec![PathBuf::from("."), PathBuf::from("docs")];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if folder.starts_with("docs") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(".").unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    pages.sort();
    pages
}

fn blocks_of(page: &str) -> Vec<Block> {
    parse(page, &fs::read_to_string(root().join(page)).unwrap())
}

fn parse(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut marks = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut is_after_blank = false;
    while let Some((index, line)) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = text.fold(String::new(), |text, line| text + line + "\n");
            let marks = std::mem::take(&mut marks);
            blocks.push(Block { page: page.into(), line: index + 1, kind: kind.into(), text, marks });
        } else if let Some(mark) = mark(line) {
            marks.push(mark);
        } else {
            assert!(line.is_empty() || marks.is_empty(), "{page}:{}: a mark without a block", index + 1);
            assert!(!line.trim_start().starts_with("```"), "{page}:{}: an indented fence", index + 1);
            let is_indented_block = is_after_blank && line.starts_with("    ") && page != DIAGRAMS;
            assert!(
                !is_indented_block,
                "{page}:{}: a block without a fence, which is not checked",
                index + 1
            );
        }
        is_after_blank = line.is_empty();
    }
    blocks
}

fn mark(line: &str) -> Option<Mark> {
    let comment = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    if let Some(rest) = comment.strip_prefix("not run: ") {
        let (command, reason) = rest.rsplit_once('(').unwrap_or_default();
        assert!(reason.len() > 5 && reason.ends_with(')'), "a reason in parentheses: {line}");
        return Some(Mark::NotRun(command.trim().to_owned()));
    }
    comment.strip_prefix("with --yes: ").map(|command| Mark::WithYes(command.to_owned()))
}

/// A home with transcripts, a folder of programs, and a model server.
struct Desk {
    hfs: Hfs,
    server: ModelServer,
    agent: ScriptedProgram,
    programs: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
        let programs = hfs.home().join("bin");
        fs::create_dir_all(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hfs"), programs.join("hfs")).unwrap();
        let server = ModelServer::start();
        server.otherwise(well_formed_answer);
        let agent = ScriptedProgram::new(&json!({"session/prompt": [[chunk("Done.")]]}));
        let desk = Self { hfs, server, agent, programs };
        desk.write_transcripts();
        desk
    }

    /// Installs Claude Code, Codex and opencode, and the adapters of the first two: a scripted agent.
    fn install_agents(&self) {
        let (program, arguments) = self.agent.command(AGENT_TEST);
        let words = [program.to_str().unwrap().to_owned()].into_iter().chain(arguments);
        let agent =
            words.map(|word| shlex::try_quote(&word).unwrap().into_owned()).collect::<Vec<_>>().join(" ");
        let version = "echo 1.0.0".to_owned();
        for (name, command) in [
            ("claude", &version),
            ("codex", &version),
            ("opencode", &version),
            ("claude-agent-acp", &agent),
            ("codex-acp", &agent),
        ] {
            let path = self.programs.join(name);
            fs::write(&path, format!("#!/bin/sh\n{command}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// The two transcripts of which the tour shows the output.
    fn write_transcripts(&self) {
        let project = self.hfs.project().canonicalize().unwrap();
        let said = [
            "The login fails with \"token is not yet valid\". Why?",
            "The token begins to be valid in the future: the clock of the server is four minutes late.",
            "Can we allow a leeway?",
            "Yes, of five minutes. Or the server's clock is set by NTP.",
            "We decided to set the clock. A leeway would also accept tokens that have expired.",
            "Then I enable NTP on the server, and the validation stays as it is.",
        ];
        let claude: String = said
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let id = |index: usize| format!("00000000-0000-4000-8000-00000000000{index}");
                let is_user = index % 2 == 0;
                let role = if is_user { "user" } else { "assistant" };
                let content = if is_user { json!(text) } else { json!([{"type": "text", "text": text}]) };
                let record = json!({
                    "parentUuid": (index > 0).then(|| id(index - 1)), "isSidechain": false, "type": role,
                    "uuid": id(index), "sessionId": "11111111-1111-4111-8111-111111111111", "cwd": project,
                    "version": "2.0.0", "timestamp": format!("2026-11-20T09:0{index}:00Z"),
                    "message": {"role": role, "content": content},
                });
                format!("{record}\n")
            })
            .collect();
        let folder = self.hfs.home().join(".claude/projects/-shop");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("11111111-1111-4111-8111-111111111111.jsonl"), claude).unwrap();

        let record = |kind: &str, payload: Value| {
            format!(
                "{}\n",
                json!({"timestamp": "2026-11-21T10:00:00.000Z", "type": kind, "payload": payload})
            )
        };
        let message = |role: &str, kind: &str, text: &str| {
            let content = json!([{"type": kind, "text": text}]);
            record("response_item", json!({"type": "message", "role": role, "content": content}))
        };
        let id = "22222222-2222-4222-8222-222222222222";
        let codex = record(
            "session_meta",
            json!({"id": id, "timestamp": "2026-11-21T10:00:00.000Z", "cwd": project, "cli_version": "0.1"}),
        ) + &message("user", "input_text", "Why is the cart empty after a reload?")
            + &message("assistant", "output_text", "It is kept in memory only. Save it in the session.");
        let folder = self.hfs.home().join(".codex/sessions/2026/11/21");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("rollout-2026-11-21T10-00-00-{id}.jsonl")), codex).unwrap();
    }

    /// Makes the interpreters available. Returns whether there are any.
    fn add_interpreters(&self) -> bool {
        let found = [Language::Python, Language::JavaScript].map(interpreters);
        let [Some(shared), Some(_)] = found else { return false };
        let home = self.hfs.hfs_home();
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::symlink(&shared, home.join("runtimes")).unwrap();
        std::os::unix::fs::symlink(shared.join("cache"), home.join("cache")).unwrap();
        true
    }

    /// Runs a script in the project, with a model if `with_model`, else without. Returns its output.
    fn run(&self, script: &str, with_model: bool) -> String {
        let output = self.hfs.temporary().join("typed");
        let written = fs::File::create(&output).unwrap();
        let mut bash = Command::new("bash");
        bash.args(["-u", "-c", script]).current_dir(self.hfs.project()).env_clear();
        bash.stdin(Stdio::null()).stdout(written.try_clone().unwrap()).stderr(written);
        bash.env("HOME", self.hfs.home()).env("TMPDIR", self.hfs.temporary());
        bash.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.programs.display()));
        bash.envs([("TZ", "UTC"), ("LANG", "C.UTF-8"), ("TERM", "dumb"), ("NO_COLOR", "1")]);
        // The interpreters of a debug build are slow.
        bash.env("HFS_PLUGINS_HOOK_MS", "20000");
        if with_model {
            bash.envs([
                ("HFS_PROVIDER", "openai"),
                ("HFS_MODEL", "test-model"),
                ("OPENAI_API_KEY", "k-012345"),
            ]);
            bash.env("HFS_BASE_URL", self.server.url(Protocol::OpenAi));
        } else {
            bash.env("HFS_AGENT", "recall");
        }
        let status = bash.status().unwrap();
        let output = fs::read_to_string(output).unwrap();
        assert!(status.success(), "{status}:\n{output}");
        output
    }
}

/// The lines of a block that are typed, with their numbers in the page. Adds the marks that hold for one of them to `used`.
fn typed_lines(block: &Block, used: &mut Vec<Mark>) -> Vec<(usize, String)> {
    let mut typed = Vec::new();
    for (index, line) in block.text.lines().enumerate() {
        let is_command = !line.trim().is_empty() && !line.starts_with('#');
        let is_of_cargo = line.starts_with("cargo ") || line.starts_with(".ci/") || line.starts_with(' ');
        if !is_command || is_of_cargo || !block.is_run() {
            continue;
        }
        let command = line.split("  #").next().unwrap_or(line).trim_end();
        let mark = block.marks.iter().find(|mark| match mark {
            Mark::NotRun(marked) | Mark::WithYes(marked) => marked == command,
        });
        used.extend(mark.cloned());
        match mark {
            Some(Mark::NotRun(_)) => {}
            Some(Mark::WithYes(_)) => typed.push((block.line + index + 1, format!("{command} --yes"))),
            None => typed.push((block.line + index + 1, command.to_owned())),
        }
    }
    typed
}

/// Types all shell blocks of a page, and compares the blocks of output.
#[track_caller]
fn type_page(page: &str, desk: &Desk, with_model: bool) {
    let blocks = blocks_of(page);
    let prepared =
        PREPARATION.iter().find(|(prepared, _)| *prepared == page).map_or(&[][..], |(_, lines)| *lines);
    let mut script = String::new();
    for line in prepared {
        writeln!(script, "{{ {line}\n}} || exit").unwrap();
    }
    let mut count = 0;
    for block in blocks.iter().filter(|block| block.kind == "sh") {
        for (number, line) in typed_lines(block, &mut Vec::new()) {
            writeln!(script, "printf '%s\\n' '{LINE_MARK}{number}'").unwrap();
            writeln!(script, "{{ {line}\n}} || {{ echo \"{page}:{number} failed with $?\"; exit 1; }}")
                .unwrap();
            count += 1;
        }
    }
    if count == 0 {
        return;
    }
    let output = desk.run(&script, with_model);
    let mut before: Option<&Block> = None;
    for block in &blocks {
        if block.kind == "text output" {
            let shown = comparable(&block.text);
            let typed = before.unwrap_or_else(|| panic!("{}: output without a command", block.place()));
            let printed = comparable(&printed_by(typed, &output));
            assert!(printed.contains(&shown), "{}:\n{shown}\nis not part of\n{printed}", block.place());
        } else if block.kind == "sh" {
            before = Some(block);
        }
    }
    every_file_is_documented(&desk.hfs.hfs_home());
    println!("{page}: {count} lines typed");
}

/// Checks that `docs/reference/files.md` lists everything in the home directory.
fn every_file_is_documented(home: &Path) {
    let page = fs::read_to_string(root().join("docs/reference/files.md")).unwrap();
    let rows: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for entry in fs::read_dir(home).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_listed = rows.iter().any(|row| match row.trim_end_matches('/').split_once('*') {
            Some((start, end)) => name.starts_with(start) && name.ends_with(end),
            None => name == row.trim_end_matches('/'),
        });
        assert!(is_listed, "docs/reference/files.md does not list {name}");
    }
}

/// What the lines of a block have printed.
fn printed_by(block: &Block, output: &str) -> String {
    let end = block.line + block.text.lines().count();
    let of_lines = output.split(LINE_MARK).skip(1).filter_map(|part| {
        let (number, printed) = part.split_once('\n')?;
        (block.line..=end).contains(&number.parse().ok()?).then_some(printed)
    });
    of_lines.collect()
}

static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[k-z]{6}\b").unwrap());
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\bjust now\b|\b\d+ (second|minute|hour|day|week|month|year)s? ago\b").unwrap()
});

/// The text without what differs between runs: ids and times.
fn comparable(text: &str) -> String {
    let text = TIME.replace_all(text, "[time]");
    let text = ID.replace_all(&text, "[short-id]");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[test]
fn the_tour_can_be_typed() {
    type_page("docs/tour.md", &Desk::new(), false);
}

#[test]
fn the_readme_can_be_typed_with_a_model() {
    let desk = Desk::new();
    desk.install_agents();
    if desk.add_interpreters() {
        type_page("README.md", &desk, true);
    }
}

#[test]
fn the_guide_to_plugins_can_be_typed() {
    let desk = Desk::new();
    if desk.add_interpreters() {
        type_page("docs/plugins.md", &desk, false);
    }
}

#[test]
fn all_other_pages_can_be_typed() {
    for page in pages() {
        let is_other = !["README.md", "docs/tour.md", "docs/plugins.md"].contains(&page.as_str());
        if is_other && blocks_of(&page).iter().any(|block| block.kind == "sh") {
            let desk = Desk::new();
            desk.install_agents();
            type_page(&page, &desk, false);
        }
    }
}

/// Commands of the recorded session in the README.
const RECORDED: &[&str] = &[
    "hfs import ~/.claude ~/.codex",
    "hfs search 'not yet valid'",
    "hfs recall 'Why did we not allow a leeway?'",
    "hfs rewind @-1 seq:4",
    "hfs undo @",
];

#[test]
fn the_recorded_session_is_up_to_date() {
    let mut script = String::new();
    for command in RECORDED {
        writeln!(script, "cat <<'END'\n$ {command}\nEND\n{command} || exit\necho").unwrap();
    }
    let picture = recording(&with_fixed_ids(&Desk::new().run(&script, false)));
    let path = root().join("docs/pictures/session.svg");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &picture).unwrap();
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == picture, "docs/pictures/session.svg is out of date: run `cargo xtask reference`");
}

/// The text with the same ids and times at each run.
fn with_fixed_ids(text: &str) -> String {
    const FIXED: [&str; 4] = ["xmuppz", "nlpkru", "rzltys", "vpzyxv"];
    let mut seen: Vec<String> = Vec::new();
    let text = ID.replace_all(text, |found: &regex::Captures<'_>| {
        let position = seen.iter().position(|id| *id == found[0]).unwrap_or_else(|| {
            seen.push(found[0].to_owned());
            seen.len() - 1
        });
        FIXED[position]
    });
    TIME.replace_all(&text, "1 week ago").into_owned()
}

/// A picture of a terminal with this text, in the manner of the gallery.
fn recording(text: &str) -> String {
    const LINE: usize = 18;
    const COLUMN: f32 = 8.428;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let width = f32::from(u16::try_from(columns).unwrap()).mul_add(COLUMN, 24.0);
    let height = lines.len() * LINE + 24;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" viewBox=\"0 0 {width:.0} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1c1917\"/>\n\
         <g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"14\" fill=\"#e7e5e4\" style=\"white-space: pre\">\n"
    );
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let escaped = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let style = if line.starts_with("$ ") { " fill=\"#86efac\" font-weight=\"bold\"" } else { "" };
        // Browsers leave out blanks at the beginning of a text.
        let words = escaped.trim_start();
        let blanks = u16::try_from(escaped.len() - words.len()).unwrap();
        let x = f32::from(blanks).mul_add(COLUMN, 12.0);
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\"{style}>{words}</text>", index * LINE + 26).unwrap();
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// The blocks of this kind in all pages. Not empty.
fn blocks_that_are(kind: &str) -> Vec<Block> {
    let all = pages();
    let blocks = all.iter().flat_map(|page| blocks_of(page));
    let blocks: Vec<Block> = blocks.filter(|block| block.kind == kind && block.is_run()).collect();
    assert!(!blocks.is_empty(), "no page has a block `{kind}`");
    blocks
}

#[test]
fn configurations_in_pages_are_read_without_a_warning() {
    for block in blocks_that_are("yaml config") {
        let hfs = crate::hfs();
        fs::create_dir_all(hfs.hfs_home()).unwrap();
        fs::write(hfs.hfs_home().join("config.yaml"), &block.text).unwrap();
        let listed = hfs.run(&["config", "list"]).ok();
        assert_eq!(listed.stderr, "", "{}", block.place());
        let _ = hfs.run(&["agents"]).ok();
    }
}

/// Each is given to the binary as part of a complete configuration.
#[test]
fn triads_in_pages_are_accepted() {
    for block in blocks_that_are("yaml triads") {
        let hfs = crate::hfs();
        let complete = hfs.run(&["config", "triads", "small"]).ok().stdout;
        fs::write(hfs.project().join("my.yaml"), complete + "\n" + &block.text).unwrap();
        let output = hfs.run(&["config", "set", "triads", "my.yaml"]);
        assert!(output.code == Some(0), "{}: {}", block.place(), output.describe());
    }
}

/// Each is given to the binary with a plugin of its page.
#[test]
fn manifests_in_pages_are_accepted() {
    for block in blocks_that_are("yaml manifest") {
        let desk = Desk::new();
        if !desk.add_interpreters() {
            return;
        }
        let folder = desk.hfs.hfs_home().join("plugins/greeter");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.yaml"), &block.text).unwrap();
        let plugin = blocks_of(&block.page).into_iter().find(|other| other.kind == "python").unwrap();
        fs::write(folder.join("plugin.py"), &plugin.text).unwrap();
        let listed = desk.hfs.run(&["plugin", "list", "--json"]).ok().json();
        assert_eq!(listed["plugins"][0]["state"], "pending", "{}: {listed:#}", block.place());
    }
}

#[test]
fn plugins_in_pages_pass_the_check() {
    for (kind, file) in [("python", "plugin.py"), ("javascript", "plugin.js")] {
        for block in blocks_that_are(kind) {
            let desk = Desk::new();
            if !desk.add_interpreters() {
                return;
            }
            let folder = desk.hfs.project().join("greeter");
            fs::create_dir_all(&folder).unwrap();
            let manifest = "name: greeter\nversion: 1.0.0\ncapabilities: [commands, widgets, hooks]\n\
                 permissions: {session: read}\napi_version: \"0.1\"\n";
            fs::write(folder.join("manifest.yaml"), manifest).unwrap();
            fs::write(folder.join(file), &block.text).unwrap();
            fs::write(folder.join("texts.js"), "export const shorten = (text) => text.slice(0, 9);\n")
                .unwrap();
            let checked = desk.run("hfs plugin check greeter --yes", false);
            assert!(!checked.contains("FAILED"), "{}: {checked}", block.place());
        }
    }
}

#[test]
fn json_in_pages_is_valid_and_its_commands_exist() {
    fn commands<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
        match value {
            Value::Object(fields) => {
                if fields.get("command").is_some_and(|command| command == "hfs") {
                    found.extend(fields.get("args"));
                }
                fields.values().for_each(|value| commands(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| commands(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for block in blocks_that_are("json") {
        let value: Value =
            serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()));
        let mut found = Vec::new();
        commands(&value, &mut found);
        for arguments in found {
            let arguments: Vec<&str> =
                arguments.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
            let _ = crate::hfs().run(&[&arguments[..], &["--help"]].concat()).ok();
        }
    }
}

#[test]
fn every_block_is_of_a_known_kind_and_what_is_not_run_is_marked_and_counted() {
    const KINDS: &[&str] = &[
        "sh",
        "text output",
        "yaml config",
        "yaml triads",
        "yaml manifest",
        "python",
        "javascript",
        "json",
        "sql superuser",
        "sql owner",
        "sql userlist",
        "sql primary",
        "sql promotion",
        "ini pgbouncer",
        "text",
    ];
    let mut not_run = 0;
    for block in pages().iter().flat_map(|page| blocks_of(page)) {
        let place = block.place();
        if !block.is_run() {
            assert_eq!(block.marks.len(), 1, "{place}");
            println!("{place}: the block is not run");
            not_run += 1;
            continue;
        }
        assert!(KINDS.contains(&block.kind.as_str()), "{place}: unknown kind of block `{}`", block.kind);
        let mut used = Vec::new();
        typed_lines(&block, &mut used);
        for mark in &block.marks {
            assert!(used.contains(mark), "{place}: {mark:?} is for no line");
        }
        for mark in used.iter().filter(|mark| matches!(mark, Mark::NotRun(_))) {
            println!("{place}: {mark:?}");
            not_run += 1;
        }
    }
    assert_eq!(not_run, NOT_RUN, "lines and blocks that are not run; see the list above");
}

#[test]
fn marks_and_blocks_are_parsed() {
    let page = "<!-- not run: hfs watch (ends by Ctrl+C) -->\n<!-- with --yes: hfs a b c -->\n\n```sh\nhfs watch\n\
                hfs a b c     # asks\nhfs x\n```\n";
    let blocks = parse("p.md", page);
    assert_eq!(blocks[0].marks, [Mark::NotRun("hfs watch".into()), Mark::WithYes("hfs a b c".into())]);
    let mut used = Vec::new();
    let typed = typed_lines(&blocks[0], &mut used);
    assert_eq!(typed, [(6, "hfs a b c --yes".into()), (7, "hfs x".into())]);
    assert_eq!(used, blocks[0].marks);
    let kinds: BTreeSet<String> = blocks.into_iter().map(|block| block.kind).collect();
    assert_eq!(kinds, BTreeSet::from(["sh".to_owned()]));
    assert_eq!(
        comparable("xmuppz a 2 weeks ago \nnlpkru just now\n"),
        "[short-id] a [time]\n[short-id] [time]"
    );
}
