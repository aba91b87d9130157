//! Turns of several messages: an agent that uses tools.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{
    AgentError, BranchStore as _, CheckpointStore as _, CompletedMessage, ErrorExt, ErrorKind, Event,
    EventPayload, Hooks, Message, MessageDraft, MessageRange, MessageStatus, MessageStore, PassthroughFields,
    Pattern, PluginStates, Position, ReplyDelta, Role, RunSnapshot, SessionId, SessionStore as _, Source,
    Store, StoreError, Timestamp, Trigger, Usage, Verdict,
};
use hfs_engine::{Conversation, Engine, Exchange, RewindTarget, SendError, Settings, Update};
use hfs_store::{MemoryStore, SqliteOptions, SqliteStore};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::agent::{
    Recorded, Scripted, Step, engine, engine_with_hooks, engine_with_settings, faulty_store, memory_store,
};

/// A turn with one call: three messages after the user's.
fn turn() -> Vec<Step> {
    vec![
        Step::Say("Let me see."),
        Step::call("1", "ls"),
        Step::next(Role::Tool),
        Step::Pause(1_000),
        Step::result("1", "a.rs"),
        Step::next(Role::Assistant),
        Step::Say("There is one file."),
    ]
}

fn contents(messages: &[Message]) -> Vec<(Role, String, MessageStatus)> {
    let content =
        |message: &Message| (message.content.role, message.content.searchable_text(), message.content.status);
    messages.iter().map(content).collect()
}

fn complete(role: Role, text: &str) -> (Role, String, MessageStatus) {
    (role, text.to_owned(), MessageStatus::Complete)
}

fn interrupted(role: Role, text: &str) -> (Role, String, MessageStatus) {
    (role, text.to_owned(), MessageStatus::Interrupted)
}

fn whole_turn() -> Vec<(Role, String, MessageStatus)> {
    vec![
        complete(Role::User, "go"),
        complete(Role::Assistant, "Let me see.\nrun\nls"),
        complete(Role::Tool, "a.rs"),
        complete(Role::Assistant, "There is one file."),
    ]
}

fn history(store: &dyn Store, conversation: &Conversation) -> Vec<Message> {
    store.read_messages(conversation.branch().unwrap(), MessageRange::Newest(100)).unwrap()
}

async fn send(engine: &Engine, conversation: &mut Conversation, updates: &Arc<Recorded>) -> Exchange {
    engine.send(conversation, "go", updates.clone(), CancellationToken::new()).await.unwrap()
}

fn call(closure: impl Fn() + Send + Sync + 'static) -> Step {
    Step::Call(Arc::new(closure))
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_saved_as_the_messages_of_the_agents_own_transcript() {
    let store = memory_store();
    let (usage, source) = (Usage::new(5, 2), Source { format: "tool".into(), id: "message-1".into() });
    let mut extra = PassthroughFields::new();
    extra.insert("stop_reason".to_owned(), "tool_use".into());
    let mut steps = turn();
    let completed = CompletedMessage::streamed()
        .with_model(Some("m".into()))
        .with_usage(Some(usage))
        .with_extra(extra)
        .with_source(Some(source.clone()));
    steps[2] = Step::Next(completed, Role::Tool);
    steps.insert(5, Step::Pause(1_000));
    let updates = Arc::new(Recorded::default());
    let mut conversation = Conversation::new(None);
    let engine = engine(store.clone(), Scripted::new(steps));
    let exchange = send(&engine, &mut conversation, &updates).await;
    let messages = history(store.as_ref(), &conversation);
    assert_eq!(contents(&messages), whole_turn());
    assert_eq!(exchange.messages().cloned().collect::<Vec<_>>(), messages[1..]);
    assert_eq!((exchange.earlier.len(), &exchange.reply), (2, &messages[3]));
    assert_eq!(conversation.head(), 4);
    let calling = &messages[1].content;
    assert_eq!((calling.model.as_deref(), calling.usage), (Some("m"), Some(usage)));
    assert_eq!(
        (&calling.source, calling.extra.get("stop_reason").unwrap()),
        (&Some(source), &Value::from("tool_use"))
    );
    assert!(messages[1..].iter().all(|message| message.content.agent.as_deref() == Some("scripted")));

    let order: Vec<String> = updates
        .0
        .lock()
        .unwrap()
        .iter()
        .filter_map(|update| match update {
            Update::ReplyStarted(_) => Some("begins".to_owned()),
            Update::MessageStarted { role } => Some(format!("{role} begins")),
            Update::MessageEnded(message) => Some(format!("{} ends", message.seq)),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["begins", "tool begins", "2 ends", "assistant begins", "3 ends", "4 ends"]);
    // The conversation continues after the turn.
    let next = send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    assert_eq!((next.user.seq, next.reply.seq), (5, 8));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_durable_when_the_agent_may_ask_for_its_permission() {
    let store = memory_store();
    let other_process = Arc::new(store.reopen());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (reader, found) = (Arc::clone(&other_process), Arc::clone(&seen));
    let look = call(move || {
        let branch =
            reader.list_sessions(&Default::default(), &hfs_core::PageRequest::first(1)).unwrap().items[0]
                .session
                .current_branch;
        let messages = reader.read_messages(branch, MessageRange::Newest(10)).unwrap();
        found.lock().unwrap().push(messages.last().unwrap().content.searchable_text());
    });
    let steps = vec![
        Step::call("1", "rm"),
        Step::Persist,
        look.clone(),
        Step::next(Role::Tool),
        Step::Output("1", "removed "),
        Step::Persist,
        look.clone(),
        Step::result("1", "removed all"),
        Step::Persist,
        look,
        Step::Persist,
    ];
    // Nothing else makes the engine save before the end.
    let settings = Settings::default().with_flush_interval(Duration::from_secs(3_600));
    let engine = engine_with_settings(store.clone(), Scripted::new(steps), settings);
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    assert_eq!(*seen.lock().unwrap(), ["run\nrm", "removed ", "removed all"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_learns_that_a_call_cannot_be_saved_and_the_call_is_not_lost() {
    let store = faulty_store();
    let full = store.clone();
    let steps =
        vec![Step::call("1", "rm"), call(move || full.fail_saves(u32::MAX)), Step::Persist, Step::Hang];
    let engine = engine(store.clone(), Scripted::new(steps));
    let mut conversation = Conversation::new(None);
    let sent = engine.send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new());
    match sent.await {
        Err(SendError::ReplyNotSaved { messages, source }) => {
            let texts: Vec<String> = messages.iter().map(MessageDraft::searchable_text).collect();
            assert_eq!(texts, ["run\nrm"]);
            assert_eq!(source.kind(), ErrorKind::Unavailable);
        }
        other => panic!("expected the call in the error, got {other:?}"),
    }
    // A store that recovers in time does not stop the agent.
    let recovering = store.clone();
    store.fail_saves(0);
    let steps =
        vec![Step::call("1", "rm"), call(move || recovering.fail_saves(3)), Step::Persist, Step::Say("ok")];
    let engine = engine_with_settings(store.clone(), Scripted::new(steps), Settings::default());
    let exchange = send(&engine, &mut Conversation::new(None), &Arc::new(Recorded::default())).await;
    assert!(exchange.failure.is_none(), "{:?}", exchange.failure);
}

#[tokio::test(start_paused = true)]
async fn another_process_cannot_write_between_the_messages_of_a_turn() {
    let store = memory_store();
    let other_process = Arc::new(store.reopen());
    let refused = Arc::new(Mutex::new(0));
    let count = Arc::clone(&refused);
    let intrude = call(move || {
        let session =
            other_process.list_sessions(&Default::default(), &hfs_core::PageRequest::first(1)).unwrap();
        let branch = session.items[0].session.current_branch;
        let head = other_process.get_branch(branch).unwrap().head;
        let message = MessageDraft::user("me too", Timestamp::UNIX_EPOCH);
        match other_process.append(Position { branch, head }, &[message]) {
            Err(StoreError::Locked { .. }) => *count.lock().unwrap() += 1,
            other => panic!("another process wrote into a turn: {other:?}"),
        }
    });
    let steps = turn().into_iter().flat_map(|step| [step, Step::Persist, intrude.clone()]).collect();
    let mut conversation = Conversation::new(None);
    send(&engine(store.clone(), Scripted::new(steps)), &mut conversation, &Arc::new(Recorded::default()))
        .await;
    assert_eq!(*refused.lock().unwrap(), 7);
    assert_eq!(contents(&history(store.as_ref(), &conversation)), whole_turn());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_ends_without_words_leaves_no_empty_message() {
    let store = memory_store();
    let mut steps = turn();
    steps.pop();
    let mut conversation = Conversation::new(None);
    let engine = engine(store.clone(), Scripted::new(steps));
    let exchange = send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    assert_eq!(contents(&history(store.as_ref(), &conversation)), whole_turn()[..3]);
    assert_eq!((exchange.reply.seq, exchange.earlier.len(), conversation.head()), (3, 1, 3));
    send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_part_is_replaced_by_the_next_one() {
    let store = memory_store();
    let steps = vec![
        Step::next(Role::Tool),
        Step::next(Role::Assistant),
        Step::call("1", "ls"),
        Step::next(Role::Assistant),
        Step::next(Role::Tool),
        Step::result("1", "a.rs"),
    ];
    let mut conversation = Conversation::new(None);
    send(&engine(store.clone(), Scripted::new(steps)), &mut conversation, &Arc::new(Recorded::default()))
        .await;
    let expected =
        [complete(Role::User, "go"), complete(Role::Assistant, "run\nls"), complete(Role::Tool, "a.rs")];
    assert_eq!(contents(&history(store.as_ref(), &conversation)), expected);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_fails_after_a_result_says_so_in_a_message_of_its_own() {
    let store = memory_store();
    let mut steps = turn();
    steps[6] = Step::Fail;
    let mut conversation = Conversation::new(None);
    let engine = engine(store.clone(), Scripted::new(steps));
    let exchange = send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    let mut expected = whole_turn();
    expected[3] = interrupted(Role::Assistant, "");
    let messages = history(store.as_ref(), &conversation);
    assert_eq!(contents(&messages), expected);
    assert_eq!(messages[3].content.extra.get("error").unwrap()["kind"], "unavailable");
    assert!(matches!(exchange.failure, Some(AgentError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_turn_keeps_its_calls() {
    let store = memory_store();
    let cancel = CancellationToken::new();
    let canceller = cancel.clone();
    let steps = vec![
        Step::Say("I remove it."),
        Step::call("1", "rm"),
        Step::next(Role::Tool),
        Step::Output("1", "removing"),
        call(move || canceller.cancel()),
        Step::AwaitCancel,
    ];
    let engine = engine(store.clone(), Scripted::new(steps));
    let mut conversation = Conversation::new(None);
    let exchange = engine.send(&mut conversation, "go", Arc::new(Recorded::default()), cancel).await.unwrap();
    assert!(matches!(exchange.failure, Some(AgentError::Cancelled)));
    let expected = [
        complete(Role::User, "go"),
        complete(Role::Assistant, "I remove it.\nrun\nrm"),
        interrupted(Role::Tool, "removing"),
    ];
    assert_eq!(contents(&history(store.as_ref(), &conversation)), expected);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_turn_keeps_what_the_agent_did_and_the_conversation_continues() {
    // The number of messages that are complete when the future is dropped.
    for dropped_at in 0..7 {
        let store = memory_store();
        let mut steps = turn();
        steps.truncate(dropped_at);
        steps.push(Step::Hang);
        let engine = engine(store.clone(), Scripted::new(steps));
        let mut conversation = Conversation::new(None);
        let sent =
            engine.send(&mut conversation, "go", Arc::new(Recorded::default()), CancellationToken::new());
        // Some drops come before the first save of a message and some after.
        let after = Duration::from_millis(if dropped_at % 2 == 0 { 1_050 } else { 5_000 });
        assert!(tokio::time::timeout(after, sent).await.is_err());
        engine.append_user_message(&mut conversation, "next", &Recorded::default()).await.unwrap();
        let messages = history(store.as_ref(), &conversation);
        let (said, called) = ("Let me see.", "Let me see.\nrun\nls");
        let turn = match dropped_at {
            0 => vec![interrupted(Role::Assistant, "")],
            1 => vec![interrupted(Role::Assistant, said)],
            2..5 => vec![interrupted(Role::Assistant, called)],
            5 => vec![complete(Role::Assistant, called), interrupted(Role::Tool, "a.rs")],
            _ => {
                let (call, result) = (complete(Role::Assistant, called), complete(Role::Tool, "a.rs"));
                vec![call, result, interrupted(Role::Assistant, "")]
            }
        };
        let expected: Vec<_> = [complete(Role::User, "go")]
            .into_iter()
            .chain(turn)
            .chain([complete(Role::User, "next")])
            .collect();
        assert_eq!(contents(&messages), expected, "dropped after {dropped_at} steps");
    }
}

/// Records what the agent said, and removes a word.
#[derive(Default)]
struct Guard(Mutex<Vec<String>>);

#[async_trait]
impl Hooks for Guard {
    async fn on_start(&self, _session: SessionId) {}

    async fn on_message(&self, _session: SessionId, text: &str, is_user: bool) -> Verdict {
        if is_user {
            return Verdict::Pass;
        }
        self.0.lock().unwrap().push(text.to_owned());
        Verdict::Replace(text.replace("secret", "***"))
    }

    async fn on_event(&self, _session: SessionId, _event: &Event) {}

    async fn on_run_complete(&self, _session: SessionId, _snapshot: &RunSnapshot) {}

    async fn on_exit(&self, _session: SessionId) {}

    fn session_state(&self, _session: SessionId) -> Option<PluginStates> {
        None
    }

    fn restore_state(&self, _session: SessionId, _state: &PluginStates) {}

    fn release_state(&self, _session: SessionId) {}
}

#[tokio::test(start_paused = true)]
async fn hooks_see_each_text_of_a_turn() {
    let (store, guard) = (memory_store(), Arc::new(Guard::default()));
    let steps = vec![
        Step::Say("The secret is in a file."),
        Step::call("1", "cat"),
        Step::next(Role::Tool),
        Step::result("1", "secret"),
        Step::next(Role::Assistant),
        Step::call("2", "ls"),
        Step::next(Role::Tool),
        Step::result("2", "none"),
        Step::next(Role::Assistant),
        Step::Say("No secret left."),
    ];
    let engine = engine_with_hooks(store.clone(), Scripted::new(steps), guard.clone());
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    assert_eq!(*guard.0.lock().unwrap(), ["The secret is in a file.", "No secret left."]);
    let texts: Vec<String> = history(store.as_ref(), &conversation)
        .iter()
        .map(|message| message.content.searchable_text())
        .collect();
    let expected = ["go", "The *** is in a file.\nrun\ncat", "secret", "run\nls", "none", "No *** left."];
    assert_eq!(texts, expected);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_an_event_contains_the_messages_that_were_complete() {
    let store = memory_store();
    let ended = || Step::Event(EventPayload::custom("tool.ended", Map::new()));
    let mut steps = turn();
    steps.insert(1, ended());
    steps.insert(7, ended());
    let settings = Settings::default().with_checkpoint_on(vec![Pattern::new("tool.ended")]);
    let engine = engine_with_settings(store.clone(), Scripted::new(steps), settings);
    let mut conversation = Conversation::new(None);
    send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
    let checkpoints = store.list_checkpoints(conversation.session().unwrap()).unwrap();
    let at_event = |checkpoint: &&hfs_core::Checkpoint| matches!(&checkpoint.trigger, Trigger::Event(kind) if kind == "tool.ended");
    let mut seqs: Vec<u64> = checkpoints.iter().filter(at_event).map(|checkpoint| checkpoint.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 3]);

    // A rewind into the turn keeps what is before the place; the agent is not given the call without a result.
    let message = RewindTarget::Message { branch: conversation.branch().unwrap(), seq: 2 };
    let rewound = engine.rewind(message).await.unwrap();
    let mut conversation =
        engine.resume(conversation.session().unwrap(), Some(rewound.branch.id)).await.unwrap();
    let agent = Scripted::new(vec![Step::Say("ok")]);
    let engine = engine_with_settings(store.clone(), agent.clone(), Settings::default());
    engine
        .send(&mut conversation, "again", Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    let expected = [
        complete(Role::User, "go"),
        complete(Role::Assistant, "Let me see.\nrun\nls"),
        complete(Role::User, "again"),
        complete(Role::Assistant, "ok"),
    ];
    assert_eq!(contents(&history(store.as_ref(), &conversation)), expected);
    let requests = agent.requests.lock().unwrap();
    let given: Vec<String> =
        requests[0].history.iter().map(|message| message.content.searchable_text()).collect();
    assert_eq!(given, ["go", "Let me see.", "again"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_turn_was_cut_off_by_a_crash_is_unanswered() {
    let clock = Arc::new(testkit::clock::TestClock::ticking());
    let store = Arc::new(MemoryStore::new(clock));
    let crashed = store.reopen();
    let session = crashed.create_session(&testkit::builders::Drafts::new(3).session("turn")).unwrap();
    let (make, branch) = (testkit::builders::Drafts::new(4), session.current_branch);
    let question = make.user("go");
    let start = Position { branch, head: 0 };
    let (_, reply) = crashed.append_and_begin_reply(start, &[question], &make.assistant("")).unwrap();
    let tool = make.message(Role::Tool, vec![]);
    crashed.continue_reply(reply, &[make.assistant("Let me see.")], &tool).unwrap();
    drop(crashed);
    let engine = engine(store.clone(), Scripted::new(vec![Step::Say("done")]));
    let mut conversation = engine.resume(session.id, None).await.unwrap();
    let user = engine.find_unanswered(&conversation, "go").await.unwrap().expect("the message is unanswered");
    assert_eq!(user.seq, 1);
    assert!(engine.ask_again(&mut conversation, &user).await.unwrap().is_some());
    engine
        .generate_reply(&mut conversation, user, Arc::new(Recorded::default()), CancellationToken::new())
        .await
        .unwrap();
    let expected = [complete(Role::User, "go"), complete(Role::Assistant, "done")];
    assert_eq!(contents(&history(store.as_ref(), &conversation)), expected);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_which_nothing_was_replied_is_unanswered() {
    for (steps, is_unanswered) in [
        (vec![Step::Fail], true),
        (vec![Step::Say("half"), Step::Fail], false),
        (vec![Step::Say("whole")], false),
    ] {
        let engine = engine(memory_store(), Scripted::new(steps));
        let mut conversation = Conversation::new(None);
        send(&engine, &mut conversation, &Arc::new(Recorded::default())).await;
        let found = engine.find_unanswered(&conversation, "go").await.unwrap();
        assert_eq!(found.is_some(), is_unanswered);
        assert!(engine.find_unanswered(&conversation, "other").await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_repeats_its_output_costs_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hfs.db");
    let store = Arc::new(SqliteStore::open(&path, SqliteOptions::default()).unwrap());
    let mut steps = vec![Step::call("1", "make"), Step::next(Role::Tool)];
    let mut output = String::new();
    for line in 0..500 {
        output.push_str(&format!("line {line} of the output of a tool that runs for a while\n"));
        steps.extend([Step::result("1", &output), Step::Persist]);
    }
    let written = Arc::new(Mutex::new(0));
    let (total, file) = (Arc::clone(&written), path.clone());
    steps.push(call(move || {
        let log = file.with_extension("db-wal");
        let bytes = [&file, &log].map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len()));
        *total.lock().unwrap() = bytes.iter().sum();
    }));
    let mut conversation = Conversation::new(None);
    let updates = Arc::new(Recorded::default());
    send(&engine(store.clone(), Scripted::new(steps)), &mut conversation, &updates).await;
    let messages = history(store.as_ref(), &conversation);
    assert_eq!(messages.last().unwrap().content.searchable_text(), output);
    let streamed: usize = updates
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|update| match update {
            Update::Delta(ReplyDelta::Output(delta)) => delta.text.len(),
            _ => 0,
        })
        .sum();
    assert!(streamed < output.len(), "{streamed} bytes were streamed for an output of {}", output.len());
    // Each of the 500 transactions writes some pages; the repeated output alone would be 7 MB.
    let written = *written.lock().unwrap();
    assert!(written < 6 << 20, "{written} bytes on disk for an output of {}", output.len());
}
