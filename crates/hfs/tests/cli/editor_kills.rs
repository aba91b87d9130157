//! `hfs acp` while the editor, hfs or the agent is killed at a random moment: what the editor was told is still there, no process
//! is left, and the session continues.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::acp_agent::{ScriptedProgram, is_running};
use testkit::acp_editor::Editor;
use testkit::cli::Hfs;

use crate::agents::{chunk, hfs_with_agent, wait_until};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Hfs,
    Agent,
    /// It closes its ends of the pipes, as its death does.
    Editor,
}

const VICTIMS: [Victim; 3] = [Victim::Hfs, Victim::Agent, Victim::Editor];

/// How far a turn had come, as the editor was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Nothing,
    Words,
    /// The question about a tool call was answered.
    Call,
    Ended,
}

/// Rounds in one session. One that grows without end would make the last rounds slow.
const ROUNDS_PER_SESSION: u64 = 10;
/// Longest time from a prompt to the kill. An undisturbed turn takes about 250.
const LONGEST_MS: u64 = 400;

/// What a round is called in its texts. No name is the beginning of another one.
fn name(round: u64) -> String {
    format!("r{round:04}")
}

/// The steps of a turn, with pauses, in which most kills happen.
fn turn(round: u64) -> Value {
    let name = name(round);
    let call = json!({"toolCallId": format!("call-{name}"), "title": "Build", "kind": "execute",
        "rawInput": {"command": format!("make {name}")}});
    let done = json!({"update": {"sessionUpdate": "tool_call_update", "toolCallId": format!("call-{name}"),
        "status": "completed", "rawOutput": format!("built {name}")}});
    let pause = json!({"sleep": 40});
    let steps = json!([
        {"spawn": true}, chunk(&format!("I build {name}, ")), chunk("at once. "), pause,
        {"ask": {"toolCall": call}, "allowed": [pause, done, pause]},
        chunk("The build "), pause, chunk(&format!("of {name} is done.")),
    ]);
    json!({"capabilities": {"loadSession": true}, "session/prompt": [steps]})
}

/// A session of an editor, with what the editor was told and which must therefore be durable.
struct Conversation {
    script: ScriptedProgram,
    hfs: Hfs,
    /// Its id, once something in it is durable.
    session: Option<String>,
    acknowledged: Vec<String>,
}

impl Conversation {
    fn new() -> Self {
        let script = ScriptedProgram::new(&json!({}));
        let hfs = hfs_with_agent(&script);
        Self { script, hfs, session: None, acknowledged: Vec::new() }
    }

    /// An editor that shows the session.
    fn open(&self) -> (Editor, String) {
        let mut editor = Editor::initialized(self.hfs.command(&["acp", "--agent", "scripted"]).to_command());
        let project = self.hfs.project();
        let Some(session) = self.session.clone() else {
            let session = editor.open(&project);
            return (editor, session);
        };
        editor.load(&session, &project);
        self.check(&json!(editor.view(&session)).to_string());
        (editor, session)
    }

    fn acknowledge(&mut self, session: &str, texts: &[String]) {
        self.session = Some(session.to_owned());
        self.acknowledged.extend_from_slice(texts);
    }

    #[track_caller]
    fn check(&self, text: &str) {
        for expected in &self.acknowledged {
            assert!(text.contains(expected.as_str()), "{expected:?} is lost: {text}");
        }
    }

    /// Runs a turn, and kills the victim after this time. Returns how far the turn had come.
    fn round(&mut self, round: u64, victim: Victim, after: Duration) -> Progress {
        self.script.change(&turn(round));
        let (mut editor, session) = self.open();
        let kill_at = Instant::now() + after;
        let prompt = editor.begin_prompt(&session, &format!("question {}", name(round)));
        let progress = self.follow(&mut editor, &session, (round, prompt), kill_at);
        match victim {
            Victim::Hfs => editor.kill(),
            Victim::Editor => {
                editor.vanish();
                let (_, errors) = editor.wait_for_end();
                assert!(!errors.contains("panicked"), "{errors}");
            }
            Victim::Agent => self.kill_agent(&mut editor, &session, (round, prompt), progress),
        }
        drop(editor);
        let home = self.hfs.home();
        wait_until("all processes have ended", || processes_of(&home).is_empty());
        let verified = self.hfs.run(&["store", "verify", "--json"]).ok().json();
        assert_eq!(verified["ok"], true, "round {round}: {verified}");
        if let Some(session) = &self.session {
            let shown = self.hfs.run(&["session", "show", session, "-n", "100000", "--json"]).ok().json();
            self.check(&shown["messages"].to_string());
        }
        progress
    }

    /// Answers the questions of a turn, until it has ended or until this time.
    fn follow(
        &mut self,
        editor: &mut Editor,
        session: &str,
        (round, prompt): (u64, u64),
        until: Instant,
    ) -> Progress {
        let name = name(round);
        let mut progress = Progress::Nothing;
        while Instant::now() < until {
            editor.receive_for(until.saturating_duration_since(Instant::now()));
            let has_words = || {
                let words = editor.updates(session, "agent_message_chunk");
                words.iter().any(|update| update.to_string().contains(&name))
            };
            if progress == Progress::Nothing && has_words() {
                progress = Progress::Words;
                self.acknowledge(session, &[format!("question {name}")]);
            }
            while let Some(question) = editor.next_request() {
                progress = Progress::Call;
                self.acknowledge(session, &[format!("I build {name}, at once."), format!("make {name}")]);
                editor.answer(&question, &json!({"outcome": {"outcome": "selected", "optionId": "once"}}));
            }
            if let Some(answer) = editor.answer_to(prompt) {
                assert_eq!(answer["result"]["stopReason"], "end_turn", "round {round}: {answer}");
                let texts = [format!("built {name}"), format!("The build of {name} is done.")];
                self.acknowledge(session, &texts);
                return Progress::Ended;
            }
        }
        progress
    }

    /// Kills the agent. Everything that it has started ends, and the next turn starts it again.
    fn kill_agent(
        &mut self,
        editor: &mut Editor,
        session: &str,
        (round, prompt): (u64, u64),
        progress: Progress,
    ) {
        let started = self.script.processes();
        let agent = self.script.running_agent();
        if let Some(process) = agent.and_then(|process| Pid::from_raw(i32::try_from(process).unwrap())) {
            // It may just have ended.
            let _ = kill_process(process, Signal::KILL);
        }
        // If it was not running yet, the turn continues, and asks.
        editor.answers_with = Some("allow_once");
        // It may also have ended since it was last looked at.
        let has_ended = progress == Progress::Ended || editor.wait(prompt).is_ok();
        if agent.is_some() {
            wait_until("what the agent has started has ended", || !started.iter().copied().any(is_running));
        }
        self.script.change(&json!({"session/prompt": [[chunk("still here")]]}));
        let question = format!("again {}", name(round));
        let mut ask = || {
            let prompt = editor.begin_prompt(session, &question);
            editor.wait(prompt)
        };
        let mut answer = ask();
        if has_ended && answer.is_err() {
            // The death of the agent has cost this turn, before which it was killed.
            answer = ask();
        }
        assert_eq!(answer.unwrap()["stopReason"], "end_turn", "round {round}");
        self.acknowledge(session, &[question]);
    }

    /// The session continues with a turn that is not disturbed.
    fn finish(mut self, round: u64) {
        self.script.change(&turn(round));
        let (mut editor, session) = self.open();
        editor.answers_with = Some("allow_once");
        assert_eq!(editor.prompt(&session, "And now?")["stopReason"], "end_turn");
        assert_eq!(editor.last_answer(&session), format!("The build of {} is done.", name(round)));
        self.acknowledge(&session, &[format!("built {}", name(round))]);
        editor.load(&session, &self.hfs.project());
        self.check(&json!(editor.view(&session)).to_string());
    }
}

/// The processes with this home directory in their environment.
fn processes_of(home: &Path) -> Vec<u32> {
    let home = format!("HOME={}", home.display());
    let is_of_home = |process: &u32| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(is_of_home).filter(|process| is_running(*process)).collect()
}

#[test]
fn a_kill_during_a_turn_of_an_editor_loses_nothing_and_leaves_no_process() {
    let from_env =
        |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let (count, seed) = (from_env("HFS_CRASH_KILLS", 6), from_env("HFS_CRASH_SEED", 20_261_130));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kills: BTreeMap<(Victim, Progress), u64> = BTreeMap::new();
    let mut round = 0;
    while round < count {
        let mut conversation = Conversation::new();
        for _ in 0..ROUNDS_PER_SESSION.min(count - round) {
            round += 1;
            let victim = VICTIMS[usize::try_from(round).unwrap() % VICTIMS.len()];
            let after = Duration::from_millis(random.u64(0..LONGEST_MS));
            let progress = conversation.round(round, victim, after);
            *kills.entry((victim, progress)).or_default() += 1;
        }
        conversation.finish(round + count);
    }
    println!("{round} kills, seed {seed}, by victim and by what the editor was told before: {kills:?}");
}
