//! Permissions of agents that act: what the options of a run allow, what the user has always allowed, and the question.
//!
//! A decision that always holds is kept in the home directory of hfs, for one agent and one directory. It never comes from a
//! project's own files, and never from the identity of its repository, which a clone can claim. For changes of files, it holds
//! only inside the directory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hfs_acp::{ActionKind, Decision, PermissionPolicy, PermissionQuestion};
use hfs_core::{Clock as _, DecidedBy, ErrorKind, SystemClock};
use hfs_files::Durability;
use serde::Deserialize;
use tokio::sync::MutexGuard;

use crate::home::Home;
use crate::output::error::CliError;

const FILE: &str = "permissions.yaml";
const VERSION: u32 = 1;
/// Size limit of that file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
const HEADER: &str = "# What agents may always do; `hfs permissions list` shows it, `hfs permissions revoke` removes entries.\n";

/// What the options of a run allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedKinds(Vec<ActionKind>);

impl AllowedKinds {
    /// Parses `read,edit` or `all`.
    ///
    /// # Errors
    /// Says which word is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if word == "all" {
                kinds.extend(ActionKind::ALL);
            } else {
                kinds.push(word.parse::<ActionKind>().map_err(|error| format!("{error}, all"))?);
            }
        }
        Ok(Self(kinds))
    }

    /// What an agent may do that only reads.
    pub fn reading() -> Self {
        Self(vec![ActionKind::Read, ActionKind::Search, ActionKind::Think])
    }

    /// These kinds, and others.
    pub fn with(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub fn contains(&self, kind: ActionKind) -> bool {
        self.0.contains(&kind)
    }
}

/// A decision that always holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionRule {
    pub agent: String,
    /// The directory that the agent works in.
    pub project: String,
    /// See [`ActionKind::as_str`].
    pub kind: String,
    /// For `execute`, the command. With ` *` at its end, further arguments may follow.
    #[serde(default)]
    pub command: Option<String>,
    pub allowed: bool,
    /// Time of the decision, in RFC 3339.
    pub decided_at: String,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    rules: Vec<PermissionRule>,
}

impl PermissionRule {
    /// The rule that an answer "always" to this question makes. `None` if it would allow too much, because the question does
    /// not say what it is about.
    pub fn for_question(question: &PermissionQuestion, project: &Path, allowed: bool) -> Option<Self> {
        let project_text = project.to_str()?.to_owned();
        let command = match question.kind {
            // The end of such a command would be read as "with any further arguments".
            ActionKind::Execute if !runs_in(question, project) => return None,
            ActionKind::Execute => Some(question.command().filter(|command| !command.ends_with(" *"))?),
            ActionKind::Read | ActionKind::Edit | ActionKind::Delete | ActionKind::Move => {
                if !is_inside_project(question, project) {
                    return None;
                }
                None
            }
            ActionKind::Search | ActionKind::Think | ActionKind::Fetch => None,
            // Not offered: a mode may ask no questions, and of other tools only the title is known.
            ActionKind::SwitchMode | ActionKind::Other => return None,
        };
        Some(Self {
            agent: question.agent.clone(),
            project: project_text,
            kind: question.kind.to_string(),
            command,
            allowed,
            decided_at: SystemClock.now().to_jiff().to_string(),
        })
    }

    /// Whether the rule decides this question.
    fn covers(&self, question: &PermissionQuestion, project: &Path) -> bool {
        if self.agent != question.agent
            || Some(self.project.as_str()) != project.to_str()
            || self.kind != question.kind.as_str()
        {
            return false;
        }
        match question.kind {
            // `./run.sh` is another program in another directory.
            ActionKind::Execute if !runs_in(question, project) => false,
            ActionKind::Execute => match (&self.command, question.command()) {
                (Some(rule), Some(command)) => covers_command(rule, &command),
                // A rule of a file that was edited by hand, for every command.
                (None, _) => true,
                (Some(_), None) => false,
            },
            ActionKind::Read | ActionKind::Edit | ActionKind::Delete | ActionKind::Move => {
                is_inside_project(question, project)
            }
            ActionKind::Search
            | ActionKind::Think
            | ActionKind::Fetch
            | ActionKind::SwitchMode
            | ActionKind::Other => true,
        }
    }

    /// What the rule is about, for people.
    pub fn describe(&self) -> String {
        match &self.command {
            Some(command) => format!("{} {command}", self.kind),
            None => self.kind.clone(),
        }
    }
}

/// Whether a rule for commands covers a command: the same one, or with further plain arguments if the rule says so.
fn covers_command(rule: &str, command: &str) -> bool {
    match rule.strip_suffix(" *") {
        None => rule == command,
        Some(start) => command.strip_prefix(start).is_some_and(|rest| {
            // Nothing that lets a shell run another command.
            let is_plain = |c: char| c.is_alphanumeric() || " -_=./:,+@%".contains(c);
            (rest.is_empty() || rest.starts_with(' ')) && rest.chars().all(is_plain)
        }),
    }
}

/// Whether a command would be run in the project's directory itself.
fn runs_in(question: &PermissionQuestion, project: &Path) -> bool {
    question.directory().is_none_or(|directory| resolved(&project.join(directory)) == project)
}

/// Whether the question names files, and all of them are inside the project.
fn is_inside_project(question: &PermissionQuestion, project: &Path) -> bool {
    let reported = question.locations.iter().chain(question.changes.iter().map(|change| &change.path));
    let mut paths = reported.map(PathBuf::as_path).chain(question.files().map(Path::new)).peekable();
    // Agents expand `~` to the home directory.
    let is_inside =
        |path: &Path| !path.starts_with("~") && resolved(&project.join(path)).starts_with(project);
    paths.peek().is_some() && paths.all(is_inside)
}

/// The path without links and `..`, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                // The parent of a link is that of its target.
                plain = plain.canonicalize().unwrap_or(plain);
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    for ancestor in plain.ancestors() {
        if let (Ok(existing), Ok(rest)) = (ancestor.canonicalize(), plain.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { existing } else { existing.join(rest) };
        }
    }
    plain
}

/// The stored decisions.
#[derive(Debug, Clone)]
pub struct Permissions {
    path: PathBuf,
}

impl Permissions {
    pub fn new(home: &Home) -> Self {
        Self { path: home.root().join(FILE) }
    }

    /// All decisions, oldest first.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn read(&self) -> Result<Vec<PermissionRule>, CliError> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        {
            Ok(_) => {}
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CliError::io(format!("read {}", self.path.display()), error)),
        }
        // A shorter text could be valid, and the rest would be lost with the next decision.
        let is_cut = text.len() as u64 > MAX_FILE_BYTES;
        let invalid = |reason: String| {
            CliError::with_hint(
                ErrorKind::Invalid,
                format!("{} cannot be read: {reason}", self.path.display()),
                "correct the file, or remove it; hfs then asks again",
            )
        };
        if is_cut {
            return Err(invalid(format!("it has more than {} MiB", MAX_FILE_BYTES >> 20)));
        }
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let document: Document = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| invalid(error.to_string().lines().next().unwrap_or_default().to_owned()))?;
        if document.version > VERSION {
            return Err(invalid(format!("version {} is newer than this hfs", document.version)));
        }
        Ok(document.rules)
    }

    /// Adds a decision, which replaces one about the same.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn add(&self, rule: PermissionRule) -> Result<(), CliError> {
        self.update(|rules| {
            rules.retain(|other| {
                (&other.agent, &other.project, &other.kind, &other.command)
                    != (&rule.agent, &rule.project, &rule.kind, &rule.command)
            });
            rules.push(rule);
        })
    }

    /// Removes the decisions that satisfy the condition, and returns them.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn remove(
        &self,
        condition: impl Fn(usize, &PermissionRule) -> bool,
    ) -> Result<Vec<PermissionRule>, CliError> {
        let mut removed = Vec::new();
        self.update(|rules| {
            let all = std::mem::take(rules);
            for (index, rule) in all.into_iter().enumerate() {
                if condition(index, &rule) { removed.push(rule) } else { rules.push(rule) }
            }
        })?;
        Ok(removed)
    }

    /// Changes the file under a lock, so that decisions of several processes are all kept.
    fn update(&self, change: impl FnOnce(&mut Vec<PermissionRule>)) -> Result<(), CliError> {
        let failed = |error| CliError::io(format!("write {}", self.path.display()), error);
        let _lock = hfs_files::lock_for_replacing(&self.path).map_err(failed)?;
        let mut rules = self.read()?;
        change(&mut rules);
        hfs_files::replace(&self.path, document(&rules).as_bytes(), Durability::Synced).map_err(failed)
    }
}

/// A string as in JSON, which is YAML as well. YAML has no control characters, and more line breaks than JSON.
fn quoted(text: &str) -> String {
    let mut yaml = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        let is_plain =
            !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        if is_plain {
            yaml.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(yaml, "\\u{:04x}", u32::from(c));
        }
    }
    yaml
}

/// The decisions as YAML.
fn document(rules: &[PermissionRule]) -> String {
    let mut yaml = format!("{HEADER}version: {VERSION}\nrules:");
    if rules.is_empty() {
        yaml.push_str(" []");
    }
    yaml.push('\n');
    for rule in rules {
        let PermissionRule { agent, project, kind, command, allowed, decided_at } = rule;
        let command = command.as_deref().map(|command| format!("  command: {}\n", quoted(command)));
        let _ = write!(
            yaml,
            "- agent: {}\n  project: {}\n  kind: {}\n{}  allowed: {allowed}\n  decided_at: {}\n",
            quoted(agent),
            quoted(project),
            quoted(kind),
            command.unwrap_or_default(),
            quoted(decided_at)
        );
    }
    yaml
}

/// What an agent asks to do, after "asks to".
pub const fn action(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Read => "read files",
        ActionKind::Edit => "change files",
        ActionKind::Delete => "delete files",
        ActionKind::Move => "move files",
        ActionKind::Search => "search",
        ActionKind::Execute => "run a command",
        ActionKind::Think => "think",
        ActionKind::Fetch => "fetch data from elsewhere",
        ActionKind::SwitchMode => "change its mode",
        ActionKind::Other => "use a tool",
    }
}

/// The user's answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Once { allowed: bool },
    Always { allowed: bool },
}

/// Asks the user.
#[async_trait]
pub trait Asker: Send + Sync {
    /// The answer; `None` if there is no terminal to ask on. `covers` says what an answer "always" would cover; `None` if it is not
    /// offered.
    async fn ask(&self, question: &PermissionQuestion, covers: Option<String>) -> Option<Answer>;

    /// Called when the number of questions that wait for the open one has changed.
    fn waiting_changed(&self, _count: usize) {}
}

/// Without a user, the answer is no.
pub struct NeverAsks;

#[async_trait]
impl Asker for NeverAsks {
    async fn ask(&self, _question: &PermissionQuestion, _covers: Option<String>) -> Option<Answer> {
        None
    }
}

/// The questions of all agents of a process. One is asked at a time, so that an answer "always" also holds for those that wait.
#[derive(Default)]
pub struct QuestionQueue {
    /// Held while a question is open.
    open: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
}

/// A question that waits for the open one.
struct WaitingQuestion<'a> {
    queue: &'a QuestionQueue,
    asker: &'a dyn Asker,
}

impl<'a> WaitingQuestion<'a> {
    fn new(queue: &'a QuestionQueue, asker: &'a dyn Asker) -> Self {
        asker.waiting_changed(queue.waiting.fetch_add(1, Ordering::SeqCst) + 1);
        Self { queue, asker }
    }
}

impl Drop for WaitingQuestion<'_> {
    fn drop(&mut self) {
        self.asker.waiting_changed(self.queue.waiting.fetch_sub(1, Ordering::SeqCst) - 1);
    }
}

impl QuestionQueue {
    /// Waits until no other question is open.
    async fn wait(&self, asker: &dyn Asker) -> MutexGuard<'_, ()> {
        if let Ok(open) = self.open.try_lock() {
            return open;
        }
        let _waiting = WaitingQuestion::new(self, asker);
        self.open.lock().await
    }
}

/// Decides by the options of the run, the stored decisions, and the user, in this order.
pub struct UserPolicy {
    pub allowed: AllowedKinds,
    pub permissions: Permissions,
    /// The directory that the agent works in, without links.
    pub project: PathBuf,
    pub asker: Arc<dyn Asker>,
    pub queue: Arc<QuestionQueue>,
}

impl UserPolicy {
    /// The decision that the options of the run or a stored decision make, if there is one.
    pub async fn decided_before(&self, question: &PermissionQuestion) -> Option<Decision> {
        if self.allowed.contains(question.kind) {
            return Some(Decision::new(true, DecidedBy::Options));
        }
        let remembered = self.remembered(question).await;
        remembered.map(|allowed| Decision::new(allowed, DecidedBy::Remembered))
    }

    /// The stored decision about a question, if there is one.
    async fn remembered(&self, question: &PermissionQuestion) -> Option<bool> {
        let (permissions, project, asked) =
            (self.permissions.clone(), self.project.clone(), question.clone());
        let decided = tokio::task::spawn_blocking(move || {
            // A file that cannot be read decides nothing, so the user is asked.
            let rules = permissions.read().unwrap_or_default();
            rules.iter().rev().find(|rule| rule.covers(&asked, &project)).map(|rule| rule.allowed)
        });
        decided.await.ok().flatten()
    }
}

#[async_trait]
impl PermissionPolicy for UserPolicy {
    async fn decide(&self, question: &PermissionQuestion) -> Decision {
        if let Some(decision) = self.decided_before(question).await {
            return decision;
        }
        let _open = self.queue.wait(self.asker.as_ref()).await;
        if let Some(allowed) = self.remembered(question).await {
            return Decision::new(allowed, DecidedBy::Remembered);
        }
        let rule = PermissionRule::for_question(question, &self.project, true);
        let covers = rule.as_ref().map(PermissionRule::describe);
        let Some(answer) = self.asker.ask(question, covers).await else {
            return Decision::new(false, DecidedBy::NoTerminal);
        };
        let allowed = match answer {
            Answer::Once { allowed } => allowed,
            Answer::Always { allowed } => {
                if let Some(rule) = PermissionRule::for_question(question, &self.project, allowed) {
                    let permissions = self.permissions.clone();
                    // If it cannot be stored, the answer holds for this question, and the next one is asked again.
                    let _ = tokio::task::spawn_blocking(move || permissions.add(rule)).await;
                }
                allowed
            }
        };
        Decision::new(allowed, DecidedBy::User)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hfs_acp::FileChange;
    use serde_json::json;

    use super::*;

    fn question(kind: ActionKind, command: Option<&str>, path: Option<&str>) -> PermissionQuestion {
        PermissionQuestion {
            agent: "claude".into(),
            call: "1".into(),
            title: "x".into(),
            kind,
            input: command.map(|command| json!({"command": command})),
            changes: path
                .map(|path| FileChange { path: path.into(), old: None, new: String::new() })
                .into_iter()
                .collect(),
            locations: Vec::new(),
            text: Vec::new(),
            request: serde_json::Value::Null,
        }
    }

    /// Answers in the same way, and keeps what it was asked.
    struct Fixed(Option<Answer>, Mutex<Vec<Option<String>>>);

    #[async_trait]
    impl Asker for Fixed {
        async fn ask(&self, _: &PermissionQuestion, covers: Option<String>) -> Option<Answer> {
            self.1.lock().unwrap().push(covers);
            self.0
        }
    }

    fn policy(home: &Path, project: &Path, answer: Option<Answer>, allow: &str) -> (UserPolicy, Arc<Fixed>) {
        let asker = Arc::new(Fixed(answer, Mutex::default()));
        let policy = UserPolicy {
            allowed: AllowedKinds::parse(allow).unwrap(),
            permissions: Permissions { path: home.join(FILE) },
            project: project.canonicalize().unwrap(),
            asker: Arc::clone(&asker) as Arc<dyn Asker>,
            queue: Arc::default(),
        };
        (policy, asker)
    }

    #[tokio::test]
    async fn options_decide_before_stored_decisions_and_these_before_the_user() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = question(ActionKind::Execute, Some("cargo test"), None);
        let always = Some(Answer::Always { allowed: true });
        let (asking, asker) = policy(home.path(), project.path(), always, "read");
        assert_eq!(asking.decide(&run).await, Decision::new(true, DecidedBy::User));
        assert_eq!(*asker.1.lock().unwrap(), [Some("execute cargo test".to_owned())]);
        let (silent, _) = policy(home.path(), project.path(), None, "fetch");
        assert_eq!(silent.decide(&run).await, Decision::new(true, DecidedBy::Remembered));
        let other = question(ActionKind::Execute, Some("cargo test; rm -rf /"), None);
        assert_eq!(silent.decide(&other).await, Decision::new(false, DecidedBy::NoTerminal));
        let fetch = question(ActionKind::Fetch, None, None);
        assert_eq!(silent.decide(&fetch).await, Decision::new(true, DecidedBy::Options));
        // In another directory, the decision does not hold.
        let elsewhere = tempfile::tempdir().unwrap();
        let (silent, _) = policy(home.path(), elsewhere.path(), None, "");
        assert_eq!(silent.decide(&run).await.by, DecidedBy::NoTerminal);
    }

    #[tokio::test]
    async fn an_always_is_not_offered_for_a_command_that_would_be_read_as_a_wildcard() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (asking, asker) = policy(home.path(), project.path(), Some(Answer::Always { allowed: true }), "");
        let wildcard = question(ActionKind::Execute, Some("rm -f *"), None);
        assert_eq!(asking.decide(&wildcard).await, Decision::new(true, DecidedBy::User));
        assert_eq!(*asker.1.lock().unwrap(), [None]);
        let (silent, _) = policy(home.path(), project.path(), None, "");
        let other = question(ActionKind::Execute, Some("rm -f -r /home"), None);
        assert_eq!(silent.decide(&other).await.by, DecidedBy::NoTerminal);
    }

    #[tokio::test]
    async fn an_always_also_decides_the_questions_that_wait_for_the_answer() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (asking, asker) = policy(home.path(), project.path(), Some(Answer::Always { allowed: true }), "");
        let run = question(ActionKind::Execute, Some("cargo test"), None);
        let (first, second) = tokio::join!(asking.decide(&run), asking.decide(&run));
        let by_user = [&first, &second].into_iter().filter(|decision| decision.by == DecidedBy::User).count();
        assert!(first.allowed && second.allowed && by_user == 1, "{first:?} {second:?}");
        assert_eq!(asker.1.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_an_error_and_is_not_replaced_by_a_part_of_it() {
        let home = tempfile::tempdir().unwrap();
        let permissions = Permissions { path: home.path().join(FILE) };
        let rules = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap());
        std::fs::write(&permissions.path, format!("version: 1\nrules: []\n{rules}\n")).unwrap();
        assert!(permissions.read().unwrap_err().to_string().contains("more than 4 MiB"));
    }

    #[tokio::test]
    async fn an_always_for_changes_holds_inside_the_directory_only() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inside = project.path().join("src/new.rs");
        let edit = |path: &Path| question(ActionKind::Edit, None, path.to_str());
        let always = Some(Answer::Always { allowed: true });
        let (asking, _) = policy(home.path(), project.path(), always, "");
        asking.decide(&edit(&inside)).await;
        let (silent, asker) = policy(home.path(), project.path(), None, "");
        assert_eq!(silent.decide(&edit(&inside)).await.by, DecidedBy::Remembered);
        let mut outside =
            vec![PathBuf::from("/etc/hosts"), project.path().join("../x"), home.path().join("y")];
        {
            std::os::unix::fs::symlink(home.path(), project.path().join("link")).unwrap();
            outside.push(project.path().join("link/z"));
            outside.push(project.path().join("link/../z"));
        }
        for path in outside {
            assert_eq!(silent.decide(&edit(&path)).await.by, DecidedBy::NoTerminal, "{}", path.display());
        }
        // Without a path, and for tools of which only the title is known, it is not offered.
        silent.decide(&question(ActionKind::Edit, None, None)).await;
        silent.decide(&question(ActionKind::Other, None, None)).await;
        assert!(asker.1.lock().unwrap().iter().all(Option::is_none));
    }

    #[test]
    fn an_always_holds_in_the_directory_of_the_project_and_for_all_files_that_a_call_names() {
        let project = Path::new("/project");
        let command = |directory: Option<&str>| PermissionQuestion {
            input: Some(json!({"command": "./run.sh", "cwd": directory})),
            ..question(ActionKind::Execute, None, None)
        };
        let rule = PermissionRule::for_question(&command(None), project, true).unwrap();
        for (directory, covered) in
            [(None, true), (Some("/project"), true), (Some("."), true), (Some("/etc"), false)]
        {
            assert_eq!(rule.covers(&command(directory), project), covered, "{directory:?}");
            assert_eq!(PermissionRule::for_question(&command(directory), project, true).is_some(), covered);
        }
        let edit = |file: &str| PermissionQuestion {
            input: Some(json!({"file_path": file, "content": "x"})),
            ..question(ActionKind::Edit, None, Some("/project/a.rs"))
        };
        let rule = PermissionRule::for_question(&edit("/project/a.rs"), project, true).unwrap();
        for (file, covered) in [("b.rs", true), ("/etc/passwd", false), ("../b.rs", false), ("~/b.rs", false)]
        {
            assert_eq!(rule.covers(&edit(file), project), covered, "{file}");
        }
    }

    #[test]
    fn further_arguments_are_covered_only_if_they_are_plain() {
        for (rule, command, covered) in [
            ("git status", "git status", true),
            ("git status", "git status --short", false),
            ("git status *", "git status --short", true),
            ("git status *", "git status", true),
            ("git status *", "git statusx", false),
            ("git status *", "git status; rm x", false),
            ("git status *", "git status $(rm x)", false),
            ("git status *", "git status\nrm x", false),
            ("git status *", "git status > x", false),
        ] {
            assert_eq!(covers_command(rule, command), covered, "{rule}: {command}");
        }
    }

    #[test]
    fn decisions_are_read_as_they_were_written() {
        let home = tempfile::tempdir().unwrap();
        let permissions = Permissions { path: home.path().join(FILE) };
        let rule = |command: &str| PermissionRule {
            agent: "a: b".into(),
            project: "/with \"quotes\" and # hash".into(),
            kind: "execute".into(),
            command: Some(command.into()),
            allowed: true,
            decided_at: "2026-01-01T00:00:00Z".into(),
        };
        let commands = ["echo 'x' \\ \n more\u{7f}\u{2028}\t", "yes", "[1, 2]"];
        commands.iter().for_each(|command| permissions.add(rule(command)).unwrap());
        permissions.add(rule("yes")).unwrap();
        let read: Vec<_> =
            permissions.read().unwrap().into_iter().map(|rule| rule.command.unwrap()).collect();
        assert_eq!(read, [commands[0], "[1, 2]", "yes"]);
        assert_eq!(permissions.read().unwrap()[1], rule("[1, 2]"));
        assert_eq!(permissions.remove(|index, _| index == 0).unwrap().len(), 1);
        assert_eq!(permissions.remove(|_, _| true).unwrap().len(), 2);
        assert_eq!(permissions.read().unwrap(), []);
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&permissions.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
