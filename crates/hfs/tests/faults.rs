//! Transcripts that importers have misread, and what is right about each. They are read from the folder that `HFS_FAULTS` names, or
//! from `faults` beside the samples; without it, each test says that it is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a panic is how a test fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::cli::Hfs;

fn faults() -> Option<PathBuf> {
    let beside = |samples: PathBuf| samples.parent().map(|parent| parent.join("faults"));
    let folder = std::env::var_os("HFS_FAULTS").map(PathBuf::from);
    let folder = folder.or_else(|| beside(PathBuf::from(std::env::var_os("HFS_SAMPLES")?)));
    let folder = folder
        .or_else(|| beside(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples")))
        .unwrap_or_default();
    if !folder.is_dir() {
        eprintln!("skipped: no folder {}", folder.display());
        return None;
    }
    Some(folder)
}

/// A store, and a copy of a folder with transcripts to import into it.
struct Case {
    hfs: Hfs,
    folder: PathBuf,
}

impl Case {
    /// `None` if the folder is not there.
    fn new(name: &str) -> Option<Self> {
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall");
        let folder = hfs.project().join(name);
        copy(&faults()?.join(name), &folder);
        Some(Self { hfs, folder })
    }

    fn path(&self, relative: &str) -> String {
        self.folder.join(relative).display().to_string()
    }

    /// Imports a path, which succeeds, and returns the report.
    #[track_caller]
    fn import(&self, relative: &str) -> Value {
        let report = self.hfs.run(&["import", "--json", &self.path(relative)]).ok().json();
        assert_eq!(report["failed"], json!([]));
        report
    }

    /// Imports the folder into an empty store, and returns its only session.
    #[track_caller]
    fn only_session(&self) -> Value {
        let report = self.import("");
        assert_eq!(report["imported"].as_array().unwrap().len(), 1, "{report:#}");
        assert_eq!(report["imported"][0]["report"]["dropped"], 0, "{report:#}");
        self.shown("@", &[])
    }

    #[track_caller]
    fn shown(&self, session: &str, arguments: &[&str]) -> Value {
        let arguments = [&["session", "show", "--json", session][..], arguments].concat();
        self.hfs.run(&arguments).ok().json()
    }

    /// The number of hits of a search.
    #[track_caller]
    fn found(&self, word: &str) -> u64 {
        self.hfs.run(&["search", "--json", word]).ok().json()["total"].as_u64().unwrap()
    }

    #[track_caller]
    fn export(&self, session: &str, format: &str) -> String {
        self.hfs.run(&["export", session, "--format", format, "-o", "-"]).ok().stdout
    }

    /// The document of every session.
    #[track_caller]
    fn sessions(&self) -> Vec<Value> {
        let list = self.hfs.run(&["session", "list", "--all", "--json"]).ok().json();
        let sessions = list["sessions"].as_array().unwrap().iter();
        sessions.map(|session| self.shown(session["id"].as_str().unwrap(), &[])).collect()
    }

    /// The lines of an export in the format in which the session came.
    #[track_caller]
    fn records(&self, format: &str) -> Vec<Value> {
        let lines = self.export("@", format);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // Not `fs::copy`, which also copies the permissions.
            fs::write(to, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn messages(shown: &Value) -> &[Value] {
    shown["messages"].as_array().unwrap()
}

fn parts(shown: &Value) -> Vec<&Value> {
    messages(shown).iter().flat_map(|message| message["parts"].as_array().unwrap()).collect()
}

fn parts_of<'s>(shown: &'s Value, kind: &str) -> Vec<&'s Value> {
    parts(shown).into_iter().filter(|part| part["type"] == kind).collect()
}

/// The role and the text of each message that has text.
fn said(shown: &Value) -> Vec<(String, String)> {
    let text = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter().filter(|part| part["type"] == "text");
        parts.map(|part| part["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let said =
        messages(shown).iter().map(|message| (message["role"].as_str().unwrap().to_owned(), text(message)));
    said.filter(|(_, text)| !text.is_empty()).collect()
}

#[track_caller]
fn assert_said(shown: &Value, expected: &[(&str, &str)]) {
    let said = said(shown);
    let said: Vec<(&str, &str)> = said.iter().map(|(role, text)| (role.as_str(), text.as_str())).collect();
    assert_eq!(said, expected);
}

/// Every call has exactly one result, and every result a call.
#[track_caller]
fn assert_calls_have_results(shown: &Value) {
    let ids = |kind| {
        let mut ids: Vec<&str> =
            parts_of(shown, kind).iter().map(|part| part["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids("tool-call"), ids("tool-result"));
    assert!(!ids("tool-call").is_empty());
}

fn grown_in_mid_message(case: &Case) {
    case.import("early");
    let early = case.shown("@", &[]);
    let path = case.folder.join("early");
    let name = fs::read_dir(&path).unwrap().next().unwrap().unwrap().file_name();
    fs::copy(case.folder.join("late").join(&name), path.join(&name)).unwrap();
    let report = case.import("early");
    assert_eq!(report["imported"][0]["updated_messages"], 1, "{report:#}");
    let late = case.shown("@", &[]);
    assert_eq!(late["session"]["id"], early["session"]["id"]);
    let answer = &messages(&late)[1];
    let kinds: Vec<&str> =
        answer["parts"].as_array().unwrap().iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool-call"]);
    assert!(answer["parts"][1]["text"].as_str().unwrap().contains("betaword"));
    assert_eq!(answer["parts"][2]["name"], "Bash");
    assert_eq!((case.found("betaword"), case.found("gammaword")), (1, 1));
    assert_same_as_fresh(case, "early", &late);
}

/// The only session is as the import of a path into an empty store makes it.
#[track_caller]
fn assert_same_as_fresh(case: &Case, relative: &str, shown: &Value) {
    let home = case.hfs.home().join("fresh").display().to_string();
    let run =
        |arguments: &[&str]| case.hfs.run(&[&["--home", home.as_str()][..], arguments].concat()).ok().json();
    run(&["import", "--json", &case.path(relative)]);
    let fresh = run(&["session", "show", "--json", "@"]);
    assert_eq!(said(shown), said(&fresh));
    assert_eq!(parts(shown), parts(&fresh));
    assert_eq!(shown["session"]["name"], fresh["session"]["name"]);
    assert_eq!(shown["session"]["created_at"], fresh["session"]["created_at"]);
}

fn queued_prompts(case: &Case) {
    let shown = case.only_session();
    let said = said(&shown);
    assert_eq!(said[0], ("user".to_owned(), "start the long job alphaprompt".to_owned()));
    let queued: Vec<usize> = (0..said.len()).filter(|at| said[*at].1.contains("zebrafinch")).collect();
    assert_eq!(queued.len(), 1, "{said:?}");
    assert_eq!(said[queued[0]].0, "user");
    assert!(queued[0] > 0 && queued[0] < said.len() - 1, "at its place");
    assert_eq!(case.found("zebrafinch"), 1);
    for format in ["json", "markdown", "html", "claude-code", "codex", "opencode"] {
        assert!(case.export("@", format).contains("also check zebrafinch please"), "{format}");
    }
    assert!(!parts_of(&shown, "attachment").is_empty(), "the picture of the second prompt");
}

fn one_message_id(case: &Case) {
    let shown = case.only_session();
    let said = said(&shown);
    let roles: Vec<&str> = said.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user", "assistant"]);
    for (number, pair) in said.chunks(2).enumerate() {
        assert_eq!(pair[0].1, format!("q{number} proxyword{number}"));
        assert!(pair[1].1.contains(&number.to_string()), "{pair:?}");
    }
}

fn rewound_later(case: &Case) {
    let early = case.folder.join("early");
    let name = fs::read_dir(&early).unwrap().next().unwrap().unwrap().file_name();
    case.import("early");
    let before = case.shown("@", &[]);
    fs::copy(case.folder.join("late").join(&name), early.join(&name)).unwrap();
    case.import("early");
    let after = case.shown("@", &[]);
    assert_eq!(after["session"]["id"], before["session"]["id"]);
    let texts: Vec<String> = said(&after).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts[0], "g q0");
    assert_eq!(texts[2], "g q1 other way");
    assert_eq!(texts.len(), 4);
    assert_eq!(after["branches"].as_array().unwrap().len(), 2);
    assert_eq!(case.found("first"), 1, "what was rewound is kept");
    assert_same_as_fresh(case, "early", &after);
}

fn workflow_agents(case: &Case) {
    let report = case.import("");
    assert_eq!(report["imported"].as_array().unwrap().len(), 1, "{report:#}");
    let journal = report["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .find(|skipped| skipped["file"].as_str().unwrap().ends_with("journal.jsonl"));
    assert!(journal.is_some_and(|skipped| skipped["reason"].as_str().unwrap().contains("belongs to")));
    for word in ["nightjar", "oriole", "oriolefound", "plover", "ploverfound"] {
        assert_eq!(case.found(word), 1, "{word}");
    }
    assert_eq!(case.shown("@", &[])["branches"].as_array().unwrap().len(), 3);
}

fn tool_results_folder(case: &Case) {
    let folder = case.folder.join("9e8061f6-8fe5-fe35-af31-538c37020605/tool-results");
    let secret = case.hfs.home().join("secret.txt");
    fs::write(&secret, "secretpipit").unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("tuP.txt")).unwrap();
    let shown = case.only_session();
    assert_eq!((case.found("hobbyfalcon"), case.found("secretpipit")), (1, 0));
    assert_calls_have_results(&shown);
    fs::remove_file(folder.join("b7x.txt")).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("b7x.txt")).unwrap();
    let _ = case.hfs.run(&["import", "--full", &case.path("")]).ok();
    assert_eq!(case.found("secretpipit"), 0, "a link is not followed");
    assert!(!case.export("@", "json").contains("secretpipit"));
}

fn mcp_resources(case: &Case) {
    let shown = case.only_session();
    assert_calls_have_results(&shown);
    let output = parts_of(&shown, "tool-result")[0]["output"].as_str().unwrap();
    assert!(output.contains("successfully downloaded") && output.contains("redshankbody"), "{output}");
    assert_eq!(case.found("redshankbody"), 1);
    assert_given_back(case, "claude-code");
}

/// An export in the format of the transcript has the same records.
#[track_caller]
fn assert_given_back(case: &Case, format: &str) {
    let file = fs::read_dir(&case.folder).unwrap().next().unwrap().unwrap().path();
    let original = fs::read_to_string(file).unwrap();
    // The last record may be followed by one about the session.
    let exported = case.records(format);
    for line in original.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let content = ["message", "payload"].into_iter().find_map(|key| record.get(key)).unwrap();
        let same = exported.iter().any(|found| {
            ["message", "payload"].into_iter().any(|key| found.get(key).is_some_and(|it| it == content))
        });
        assert!(same || record["type"] == "session_meta", "{content:#} is missing");
    }
}

fn picture_in_tool_result(case: &Case) {
    let shown = case.only_session();
    let pictures = parts_of(&shown, "attachment");
    assert_eq!(pictures.len(), 1);
    assert_eq!(pictures[0]["media_type"], "image/png");
    assert!(pictures[0]["bytes"].as_u64().unwrap() > 0 && pictures[0]["hash"].is_string());
    let result = parts_of(&shown, "tool-result")[0];
    assert!(!result["output"].as_str().unwrap().contains("base64"), "{result}");
    assert_given_back(case, "codex");
}

fn calls(case: &Case) {
    let shown = case.only_session();
    let names: Vec<&str> =
        parts_of(&shown, "tool-call").iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["apply_patch", "local_shell_call", "web_search_call"]);
    let results = parts_of(&shown, "tool-result");
    let outputs: Vec<&str> = results.iter().map(|part| part["output"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["Success", "a.txt"]);
    assert_given_back(case, "codex");
    let mut ids = Vec::new();
    for record in case.records("claude-code") {
        for block in record["message"]["content"].as_array().into_iter().flatten() {
            if block["type"] == "tool_use" {
                assert!(block["input"].is_object(), "{block}");
                for text in [&block["id"], &block["name"]] {
                    let text = text.as_str().unwrap();
                    assert!(
                        text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
                        "{text}"
                    );
                }
                ids.push(block["id"].as_str().unwrap().to_owned());
            }
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((count, ids.len()), (3, 3));
}

fn gemini_rewind(case: &Case) {
    fs::create_dir(case.folder.join("chats")).unwrap();
    let name = "session-2026-09-03T08-00-gem15.jsonl";
    fs::rename(case.folder.join(name), case.folder.join("chats").join(name)).unwrap();
    fs::write(case.folder.join(".project_root"), "/home/u/waders").unwrap();
    let report = case.import("");
    assert_eq!(report["imported"].as_array().unwrap().len(), 1, "{report:#}");
    let shown = case.shown("@", &[]);
    let texts: Vec<String> = said(&shown).into_iter().map(|(_, text)| text).collect();
    let conversation: Vec<&str> =
        texts.iter().map(String::as_str).filter(|text| *text != "Request cancelled.").collect();
    assert_eq!(conversation, ["one avocet1", "ans 1", "two again avocet3", "the full answer"]);
    assert_eq!(shown["session"]["name"], "talk about waders");
    assert_eq!(shown["session"]["project"]["directory"], "/home/u/waders", "{}", shown["session"]);
    assert_eq!((case.found("bitternword"), case.found("partial")), (1, 0));
    assert_eq!(messages(&shown).len(), 4);
    assert_eq!(parts_of(&shown, "tool-call").len(), 1, "the cancelled call");
}

fn chatgpt_voice(case: &Case) {
    let shown = case.only_session();
    for word in ["dotterel", "dunlinthought", "dunnock", "fieldfare", "gadwallcode", "gadwallout", "garganey"]
    {
        assert!(case.found(word) >= 1, "{word}");
    }
    assert_said(
        &shown,
        &[
            ("user", "spoken dotterel"),
            ("assistant", "voice answer dunnock"),
            ("user", "what is in the picture fieldfare"),
            ("assistant", "the end garganey"),
        ],
    );
    assert_calls_have_results(&shown);
    assert_eq!(parts_of(&shown, "tool-result")[0]["output"], "gadwallout");
}

fn chatgpt_no_times(case: &Case) {
    let report = case.import("");
    assert_eq!(report["imported"].as_array().unwrap().len(), 3, "{report:#}");
    for session in case.sessions() {
        assert!(!session.to_string().contains("1970"), "{session:#}");
        assert_eq!(messages(&session).len(), 4);
        for message in messages(&session) {
            assert!(message["created_at"].as_str().unwrap().starts_with("2026-08-"), "{message}");
        }
        let name = session["session"]["name"].as_str().unwrap();
        assert!(!name.is_empty() && name != "null", "{name}");
        let id = session["session"]["id"].as_str().unwrap();
        assert!(!case.export(id, "json").contains("1970"));
        assert!(!case.export(id, "markdown").contains("1970"));
    }
    for word in ["crakeend", "dipperend", "curlew"] {
        assert!(case.found(word) >= 1, "{word}");
    }
}

fn aider(case: &Case) {
    let shown = case.only_session();
    assert!(shown["session"]["created_at"].as_str().unwrap().starts_with("2026-09-05T09:00:00"));
    let said = said(&shown);
    let question = "here is the question goosander\nsecond line of it".to_owned();
    assert!(said.contains(&("user".to_owned(), question)), "{said:?}");
    let answer = said.iter().find(|(role, text)| role == "assistant" && text.contains("guillemot")).unwrap();
    assert!(answer.1.contains("#### not a user line in code") && answer.1.contains("> not a tool line"));
    assert!(said.contains(&("user".to_owned(), "/etc/hosts is wrong hobbyword".to_owned())), "{said:?}");
    let question = said.iter().find(|(_, text)| text.contains("goosander")).unwrap();
    assert!(!question.1.contains("/clear"));
}

fn opencode_both_stores(case: &Case) {
    let report = case.import("");
    let imported = report["imported"].as_array().unwrap();
    let session = |name: &str| {
        let mut found = imported.iter().filter(|it| it["name"] == name);
        let id = found.next().unwrap()["session"].as_str().unwrap();
        assert!(found.next().is_none(), "{name} is one session");
        case.shown(id, &[])
    };
    let migrated = session("legacy migrated");
    assert_eq!(messages(&migrated).len(), 8);
    assert_calls_have_results(&migrated);
    let all = case.export(migrated["session"]["id"].as_str().unwrap(), "json");
    let mut texts = 0;
    for message in fs::read_dir(case.folder.join("opencode/storage/part")).unwrap() {
        for part in fs::read_dir(message.unwrap().path()).unwrap() {
            let part: Value = serde_json::from_slice(&fs::read(part.unwrap().path()).unwrap()).unwrap();
            if let Some(text) = part["text"].as_str() {
                texts += 1;
                assert!(all.contains(&json!(text).to_string()), "{text} is missing");
            }
        }
    }
    assert!(texts > 4);
    let reverted = session("Reverted");
    assert_said(&reverted, &[("user", "kept veeryone"), ("assistant", "answer kept")]);
    assert_eq!(reverted["branches"].as_array().unwrap().len(), 2, "what was undone is another branch");
}

fn langgraph(case: &Case) {
    let shown = case.only_session();
    assert_eq!(messages(&shown).len(), 10);
    let roles: Vec<&str> = messages(&shown).iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant"].repeat(5));
}

fn long_first_record(case: &Case) {
    let report = case.import("");
    assert_eq!(report["imported"].as_array().unwrap().len(), 2, "{report:#}");
    for name in ["1c5421db-0b84-525a-9861-29f0f2554e0a.jsonl", "sharegpt.json"] {
        let other = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
        let report = other.run(&["import", "--json", &case.path(name)]).ok().json();
        assert_eq!(report["imported"][0]["messages"], 2, "{report:#}");
    }
}

fn openai_arrays(case: &Case) {
    let report = case.import("");
    let imported = report["imported"].as_array().unwrap();
    assert_eq!(imported.len(), 4, "{report:#}");
    let session = |name: &str| {
        let found = imported.iter().find(|it| it["file"].as_str().unwrap().ends_with(name)).unwrap();
        assert_eq!(found["format"], "openai-messages", "{name}");
        case.shown(found["session"].as_str().unwrap(), &[])
    };
    assert_calls_have_results(&session("ant-array.json"));
    assert_calls_have_results(&session("tools-array.json"));
    assert_eq!(parts_of(&session("img-req.json"), "attachment")[0]["media_type"], "image/png");
    assert_said(&session("parts-doc.json"), &[("user", "x parts"), ("assistant", "y parts")]);
}

fn qwen_code(case: &Case) {
    let report = case.import("");
    assert_eq!(report["imported"][0]["format"], "qwen-code");
    let shown = case.shown("@", &[]);
    assert_eq!(said(&shown).len(), 3);
    assert_calls_have_results(&shown);
    assert_eq!(parts_of(&shown, "tool-result")[0]["is_error"], true);
}

fn utf16(case: &Case) {
    let report = case.import("");
    assert_eq!(report["imported"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!((case.found("rook"), case.found("ruff")), (1, 1));
}

macro_rules! checked {
    ($($test:ident: $folder:literal;)*) => {
        mod is_imported_as_it_should_be {
            use super::*;

            $(#[test] fn $test() {
                if let Some(case) = Case::new($folder) {
                    super::$test(&case);
                }
            })*

            #[test]
            fn every_folder() {
                let Some(faults) = faults() else { return };
                let checked = [$($folder),*];
                for entry in fs::read_dir(faults).unwrap() {
                    let entry = entry.unwrap();
                    let name = entry.file_name().into_string().unwrap();
                    assert!(!entry.path().is_dir() || checked.contains(&name.as_str()), "{name} is not checked");
                }
            }
        }
    };
}

checked! {
    grown_in_mid_message: "claude-grown-in-mid-message";
    queued_prompts: "claude-queued-prompts";
    one_message_id: "claude-one-message-id";
    rewound_later: "claude-rewound-later";
    workflow_agents: "claude-workflow-agents";
    tool_results_folder: "claude-tool-results-folder";
    mcp_resources: "claude-mcp-resources";
    picture_in_tool_result: "codex-picture-in-tool-result";
    calls: "codex-calls";
    gemini_rewind: "gemini-rewind";
    chatgpt_voice: "chatgpt-voice";
    chatgpt_no_times: "chatgpt-no-times";
    aider: "aider-dates-and-headings";
    opencode_both_stores: "opencode-both-stores";
    langgraph: "langgraph-delta-channel";
    long_first_record: "first-record-over-256-KiB";
    openai_arrays: "openai-arrays";
    qwen_code: "qwen-code";
    utf16: "utf16";
}
