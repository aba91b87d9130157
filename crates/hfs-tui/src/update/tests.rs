use std::sync::Arc;

use hfs_core::{
    AgentDescription, AgentError, BranchId, ContextLimit, ContextUpdate, ErrorKind, Event, EventPayload,
    LimitSource, Message, MessageDraft, MessageFlag, MessageStatus, ModelContext, Page, Part, PlanStep,
    PlanStepStatus, Position, Project, ReplyDelta, RequestEvent, Role, Run, RunId, RunSnapshot, SessionId,
    StoreError, Timestamp, ToolEnding, ToolEvent, Usage,
};
use hfs_engine::{CompactError, Compaction, Conversation, Exchange, SendError, Update};

use super::*;
use crate::chat::PathCompletion;
use crate::commands::COMMANDS;
use crate::gallery::{Harness, changed, scenes};
use crate::modal::Confirm;
use crate::ports::{
    AppSettings, FileChange, FoundPaths, KeyMode, OutputMode, PermissionAnswer, PluginDecision,
};

fn set_up(scene: &str) -> Harness {
    let scene = scenes().into_iter().find(|candidate| candidate.name == scene).unwrap();
    scene.set_up(AppSettings::default(), (100, 30))
}

fn chat() -> Harness {
    set_up("chat")
}

fn empty() -> Harness {
    Harness::new(AppSettings::default(), (100, 30))
}

fn with_keys(keys: KeyMode) -> Harness {
    Harness::new(AppSettings { keys, ..AppSettings::default() }, (100, 30))
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

fn message(seq: u64, role: Role, text: &str) -> Message {
    let content = MessageDraft::new(role, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
    Message { branch: BranchId::generate(), seq, content }
}

fn exchange(failure: Option<AgentError>) -> Exchange {
    let mut reply = message(9, Role::Assistant, "so far");
    if failure.is_some() {
        reply.content.status = MessageStatus::Interrupted;
    }
    let run = Run {
        id: RunId::generate(),
        branch: reply.branch,
        answers: None,
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        snapshot: RunSnapshot::default(),
        events: Vec::new(),
    };
    Exchange { user: message(8, Role::User, "hello"), earlier: Vec::new(), reply, run, failure }
}

fn end_exchange(harness: &mut Harness, outcome: Result<Exchange, SendError>) {
    let conversation = harness.model.chat.conversation.clone();
    harness.send(Msg::ExchangeEnded { conversation, outcome: Box::new(outcome) });
}

fn notice(harness: &Harness) -> &str {
    harness.model.notice.as_ref().map_or("", |notice| notice.text.as_str())
}

#[test]
fn undo_restores_and_opens_a_deleted_session() {
    let mut harness = chat();
    let session = harness.model.chat.conversation.session().unwrap();
    harness.submit("/delete");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&Change::Trash(session).into()));
    harness.send(changed(Ok(Changed::Trashed { session })));
    assert_eq!(harness.model.chat.conversation.session(), None);
    assert!(notice(&harness).contains("/undo"));
    harness.submit("/undo");
    assert!(harness.effects.contains(&Change::Restore(session).into()));
    harness.effects.clear();
    harness.send(changed(Ok(Changed::Restored { session })));
    assert!(harness.effects.contains(&Request::Open { session, branch: None, at: None }.into()));
}

#[test]
fn only_the_output_mode_setting_resets_the_output_mode() {
    let mut harness = chat();
    harness.press(KeyCode::Char('o'), CONTROL);
    let applied = |key: &str| ConfigApplied {
        key: key.into(),
        settings: Some(AppSettings::default()),
        agent: None,
        note: String::new(),
    };
    harness.send(Msg::ConfigSet(Ok(applied("theme"))));
    assert_eq!(harness.model.render.settings.output, OutputMode::Verbose);
    harness.send(Msg::ConfigSet(Ok(applied("output_mode"))));
    assert_eq!(harness.model.render.settings.output, OutputMode::Compact);
}

fn event(payload: EventPayload) -> Msg {
    let event = Event { run: RunId::generate(), number: 1, at: Timestamp::UNIX_EPOCH, payload };
    Msg::Exchange(Update::Event(Arc::new(event)))
}

#[test]
fn a_retry_is_shown_while_it_waits_and_disappears_with_the_reply() {
    let mut harness = chat();
    harness.submit("hello");
    let user = message(9, Role::User, "hello");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    let (agent, message) = ("assistant".to_owned(), "429 too many requests".to_owned());
    let retry = RequestEvent::Retrying { agent, message, delay_ms: 3_500 };
    harness.send(event(retry.payload().unwrap()));
    assert!(screen_text(&harness).contains("429 too many requests; again in 4 s"));
    harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text("hi"))));
    assert!(!screen_text(&harness).contains("again in"));
    harness.send(event(retry.payload().unwrap()));
    assert!(screen_text(&harness).contains("again in 4 s"));
    let usage = EventPayload::UsageUnknown { agent: "critic".into(), phase: None, model: None };
    harness.send(event(usage));
    assert!(!screen_text(&harness).contains("again in"), "the request of an agent was answered");
    let (agent, message) = ("assistant".to_owned(), "no images were sent".to_owned());
    harness.send(event(RequestEvent::LeftOut { agent, message }.payload().unwrap()));
    assert_eq!(notice(&harness), "no images were sent");
}

#[test]
fn a_long_wait_leaves_room_for_the_key_that_stops_the_reply() {
    let mut harness = chat();
    harness.model.size = (60, 20);
    harness.submit("hello");
    let user = message(9, Role::User, "hello");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    let wait = RequestEvent::Waiting {
        agent: "assistant".into(),
        server: "the OpenAI-compatible server at models.example.com".into(),
        stage: hfs_core::WaitStage::FirstToken,
        limit_ms: 300_000,
    };
    harness.send(event(wait.payload().unwrap()));
    let screen = screen_text(&harness);
    assert!(screen.contains("waiting for the first words") && screen.contains("Esc stops it"), "{screen}");
    // While agents work together, their phase says more than what one of them waits for.
    harness.send(event(EventPayload::PhaseStarted { phase: "negotiation".into() }));
    harness.send(event(EventPayload::UsageUnknown { agent: "a".into(), phase: None, model: None }));
    harness.send(event(wait.payload().unwrap()));
    assert!(screen_text(&harness).contains("negotiation · "), "{}", screen_text(&harness));
}

#[test]
fn the_save_state_does_not_flicker_while_a_reply_streams() {
    let mut harness = chat();
    harness.submit("hello");
    let user = message(9, Role::User, "hello");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    assert!(screen_text(&harness).contains("✓ saved"));
    harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text("hi"))));
    harness.send(Msg::Exchange(Update::Saved));
    assert!(screen_text(&harness).contains("◌ saving"));
    // The reply pauses.
    harness.model.render.now =
        Timestamp::from_micros(harness.model.render.now.as_micros() + 1_000_000).unwrap();
    assert!(screen_text(&harness).contains("✓ saved"));
    end_exchange(&mut harness, Ok(exchange(None)));
    assert!(screen_text(&harness).contains("✓ saved"));
}

#[test]
fn a_notice_on_a_screen_takes_the_place_of_the_details() {
    let mut harness = chat();
    harness.model.size = (80, 24);
    harness.submit("/help");
    assert!(screen_text(&harness).contains("12k tok"));
    let text = "stopped; the part of the reply that arrived is saved";
    let _ = harness.model.notify(Tone::Dim, text);
    let screen = screen_text(&harness);
    assert!(screen.contains(text) && screen.contains("✓ saved") && !screen.contains("12k tok"), "{screen}");
}

#[test]
fn the_error_of_a_reply_is_shown_once() {
    let mut harness = chat();
    harness.submit("hello");
    let error = AgentError::Malformed { provider: "the server".into(), message: "no such model".into() };
    let reason = serde_json::json!({"message": error.to_string()});
    let mut done = exchange(Some(error));
    done.reply.content.extra.insert("error".to_owned(), reason);
    end_exchange(&mut harness, Ok(done));
    let count = |harness: &Harness| screen_text(harness).matches("no such model").count();
    assert_eq!(count(&harness), 1, "{}", screen_text(&harness));
    assert!(screen_text(&harness).contains("F5 retry"));
    // The end of the reply is out of view.
    harness.model.size = (100, 16);
    harness.press(KeyCode::Home, CONTROL);
    assert_eq!(count(&harness), 1, "{}", screen_text(&harness));
}

#[test]
fn the_gauge_shows_the_servers_count_or_an_estimate_and_what_was_left_out() {
    let mut harness = chat();
    harness.model.agent = AgentDescription::new("assistant", "").with_context(ModelContext::Unknown);
    harness.submit("hello");
    let limit = Some(ContextLimit { tokens: 200_000, source: LimitSource::Table });
    let update =
        ContextUpdate { model: Some("m".into()), tokens: 84_000, limit, left_out: 3, left_out_tokens: 9_000 };
    harness.send(event(update.payload().unwrap()));
    assert!(notice(&harness).contains("the first 3 messages were left out"), "{}", notice(&harness));
    assert!(screen_text(&harness).contains("context ~84k of 200k (42%)"));
    let mut done = exchange(None);
    done.reply.content.model = Some("m".into());
    done.reply.content.agent = Some("assistant".into());
    done.reply.content.usage = Some(Usage::new(80_000, 1_000));
    end_exchange(&mut harness, Ok(done));
    assert!(screen_text(&harness).contains("context 81k of 200k (40%)"));
}

#[test]
fn the_gauge_has_the_limit_of_a_newly_chosen_model() {
    let mut harness = chat();
    let limited = |tokens| {
        let limit = ContextLimit { tokens, source: LimitSource::Table };
        AgentDescription::new("assistant", "").with_context(ModelContext::Limited(limit))
    };
    let use_agent = |harness: &mut Harness, agent| {
        let applied =
            ConfigApplied { key: "model".into(), settings: None, agent: Some(agent), note: String::new() };
        harness.send(Msg::ModelUsed { for_session: true, result: Ok(applied) });
    };
    harness.model.agent = limited(200_000);
    harness.model.chat.context =
        Some(ContextGauge { tokens: 84_000, is_estimate: false, limit: Some(200_000), is_own_report: false });
    use_agent(&mut harness, limited(200_000));
    assert!(screen_text(&harness).contains("context 84k of 200k (42%)"), "the agent is the same");
    use_agent(&mut harness, limited(100_000));
    assert!(screen_text(&harness).contains("context ~84k of 100k (84%)"));
    use_agent(&mut harness, AgentDescription::new("triads", ""));
    assert_eq!(harness.model.chat.context, None);
}

#[test]
fn the_status_bar_shows_that_tokens_were_not_reported() {
    let mut harness = chat();
    (harness.model.chat.tokens, harness.model.chat.has_unknown_tokens) = (12_000, true);
    assert!(screen_text(&harness).contains("at least 12k tok"));
}

#[test]
fn a_compaction_keeps_the_messages_and_adds_a_summary_that_can_be_opened() {
    let mut harness = chat();
    let conversation = harness.model.chat.conversation.clone();
    harness.submit("/compact");
    assert!(harness.effects.contains(&Request::Compact(conversation.clone()).into()));
    harness.send(Msg::Exchange(Update::Compacting { messages: 8 }));
    assert!(screen_text(&harness).contains("summarizing 8 messages"));
    let mut summary = message(conversation.head() + 1, Role::User, "They want a red door.");
    summary.branch = conversation.branch().unwrap();
    summary.content.set_flag(MessageFlag::CompactSummary);
    harness.send(Msg::Exchange(Update::Compacted(Arc::new(summary.clone()))));
    let position = Position { branch: summary.branch, head: summary.seq };
    let after = Conversation::at(conversation.session().unwrap(), position);
    let compaction = Compaction { summary, messages: 8, tokens: 900 };
    harness.send(Msg::Compacted { conversation: after, result: Box::new(Ok(compaction)) });
    assert!(!harness.model.chat.is_busy());
    assert_eq!(harness.model.chat.conversation.head(), conversation.head() + 1);
    let text = screen_text(&harness);
    assert!(text.contains("The model sees this summary instead") && !text.contains("red door"), "{text}");
    harness.press(KeyCode::Up, KeyModifiers::ALT);
    harness.press(KeyCode::Enter, NONE);
    assert!(screen_text(&harness).contains("red door"));
    harness.submit("/compact");
    let failed = CompactError::TooShort;
    let conversation = harness.model.chat.conversation.clone();
    harness.send(Msg::Compacted { conversation, result: Box::new(Err(failed)) });
    assert!(notice(&harness).contains("nothing to compact"), "{}", notice(&harness));
}

fn screen_text(harness: &Harness) -> String {
    let (frame, _) = harness.draw();
    frame.content.iter().map(ratatui::buffer::Cell::symbol).collect()
}

#[test]
fn a_turn_shows_each_message_once_and_which_tools_run() {
    fn with_part(seq: u64, role: Role, part: &Part) -> Message {
        let mut message = message(seq, role, "");
        message.content.parts = vec![part.clone()];
        message
    }
    let mut harness = chat();
    harness.submit("hello");
    let call = Part::ToolCall { id: "1".into(), name: "Bash".into(), input: "make".into() };
    let result = Part::ToolResult { id: "1".into(), output: "all built".into(), is_error: false };
    let send = |harness: &mut Harness, update| harness.send(Msg::Exchange(update));
    send(&mut harness, Update::Sent(Arc::new(message(8, Role::User, "hello"))));
    send(&mut harness, Update::ReplyStarted(AgentDescription::new("coder", "")));
    send(&mut harness, Update::Delta(ReplyDelta::Part(call.clone())));
    let screen = screen_text(&harness);
    assert!(screen.contains("▸ ◌ Bash  make") && screen.contains("coder runs Bash"), "{screen}");

    send(&mut harness, Update::MessageStarted { role: Role::Tool });
    send(&mut harness, Update::Delta(ReplyDelta::output("1", "half ")));
    let screen = screen_text(&harness);
    assert!(screen.contains("▸ ◌ half"), "{screen}");
    assert_eq!(screen.matches("Bash  make").count(), 1, "{screen}");
    send(&mut harness, Update::MessageEnded(Arc::new(with_part(9, Role::Assistant, &call))));
    let screen = screen_text(&harness);
    assert_eq!(
        (screen.matches("▸ Bash  make").count(), screen.matches("▸ ◌ half").count()),
        (1, 1),
        "{screen}"
    );
    assert_eq!(harness.model.chat.conversation.head(), 9);

    send(&mut harness, Update::Delta(ReplyDelta::Part(result.clone())));
    let ended = ToolEvent::ToolEnded {
        agent: "claude".into(),
        call: "1".into(),
        name: "Bash".into(),
        title: "make".into(),
        ending: ToolEnding::Completed,
        duration_ms: 1_300,
    };
    harness.send(event(ended.payload().unwrap()));
    let screen = screen_text(&harness);
    assert!(screen.contains("▸ ✓ all built · 1.3 s") && !screen.contains("▸ ◌"), "{screen}");

    send(&mut harness, Update::MessageStarted { role: Role::Assistant });
    send(&mut harness, Update::Delta(ReplyDelta::text("It works.")));
    send(&mut harness, Update::MessageEnded(Arc::new(with_part(10, Role::Tool, &result))));
    send(&mut harness, Update::MessageEnded(Arc::new(message(11, Role::Assistant, "It works."))));
    let before = screen_text(&harness);
    let mut done = exchange(None);
    done.earlier = vec![with_part(9, Role::Assistant, &call), with_part(10, Role::Tool, &result)];
    done.reply = message(11, Role::Assistant, "It works.");
    end_exchange(&mut harness, Ok(done));
    for screen in [before, screen_text(&harness)] {
        for text in ["▸ Bash  make", "▸ ✓ all built", "It works."] {
            assert_eq!(screen.matches(text).count(), 1, "{text}: {screen}");
        }
    }
    let shown: Vec<u64> = harness.model.chat.transcript.messages().map(|message| message.seq).collect();
    assert_eq!(shown[shown.len() - 4..], [8, 9, 10, 11]);
}

#[test]
fn a_single_fold_can_be_toggled() {
    let mut harness = chat();
    harness.send(Msg::Resized(100, 60));
    // Select the message with a thinking part and a tool call.
    for _ in 0..6 {
        harness.press(KeyCode::Up, KeyModifiers::ALT);
    }
    assert_eq!(harness.model.chat.transcript.selected_fold_count(), 2);
    harness.press(KeyCode::Tab, NONE);
    harness.press(KeyCode::Tab, NONE);
    harness.press(KeyCode::Enter, NONE);
    let open = screen_text(&harness);
    assert!(open.contains("│ pattern: fn retry") && !open.contains("Three times three"), "{open}");
    harness.press(KeyCode::Enter, NONE);
    assert!(!screen_text(&harness).contains("│ pattern: fn retry"));
    // After the last fold, all of them are selected again.
    harness.press(KeyCode::Tab, NONE);
    harness.press(KeyCode::Enter, NONE);
    let open = screen_text(&harness);
    assert!(open.contains("│ pattern: fn retry") && open.contains("Three times three"), "{open}");
}

#[test]
fn a_click_on_a_fold_header_opens_the_fold() {
    let mut harness = chat();
    harness.send(Msg::Resized(100, 60));
    let (frame, _) = harness.draw();
    let row = |y: u16| -> String { (0..100).map(|x| frame[(x, y)].symbol()).collect() };
    let y = (0..60).find(|y| row(*y).contains("▸ grep")).unwrap();
    for kind in [MouseEventKind::Down(MouseButton::Left), MouseEventKind::Up(MouseButton::Left)] {
        harness.send(Msg::Mouse(MouseEvent { kind, column: 8, row: y, modifiers: NONE }));
    }
    assert!(screen_text(&harness).contains("│ pattern: fn retry"));
}

#[test]
fn ctrl_c_quits_only_when_pressed_twice_in_a_row() {
    let mut harness = chat();
    harness.press(KeyCode::Char('c'), CONTROL);
    harness.press(KeyCode::Char('x'), NONE);
    harness.press(KeyCode::Char('c'), CONTROL);
    assert!(!harness.model.quitting);
    harness.press(KeyCode::Char('c'), CONTROL);
    assert!(harness.model.quitting && harness.effects.contains(&TerminalCommand::Quit.into()));
}

#[test]
fn ctrl_c_keeps_the_draft_in_the_history_and_does_not_quit_after_a_paste() {
    let mut harness = chat();
    harness.type_text("draft");
    harness.press(KeyCode::Char('c'), CONTROL);
    assert!(harness.model.chat.input.is_empty());
    harness.send(Msg::Paste("a long text".into()));
    harness.press(KeyCode::Char('c'), CONTROL);
    assert!(!harness.model.quitting);
    for expected in ["a long text", "draft"] {
        harness.press(KeyCode::Up, NONE);
        assert_eq!(harness.model.chat.input.text(), expected);
    }
}

#[test]
fn text_that_is_typed_or_pasted_closes_a_question_and_does_not_answer_it() {
    let typed = |harness: &mut Harness| harness.press(KeyCode::Char('y'), NONE);
    let pasted = |harness: &mut Harness| harness.send(Msg::Paste("y".into()));
    for write in [&typed as &dyn Fn(&mut Harness), &pasted] {
        let mut harness = chat();
        harness.submit("/delete");
        assert!(matches!(harness.model.modals.last(), Some(Modal::Confirm(_))));
        harness.effects.clear();
        write(&mut harness);
        assert!(harness.model.modals.is_empty());
        assert_eq!(harness.model.chat.input.text(), "y");
        assert!(!harness.effects.iter().any(|effect| matches!(effect, Effect::Request(Request::Change(_)))));
    }
}

#[test]
fn enter_does_not_answer_a_question_that_appears_while_the_user_types() {
    let mut harness = chat();
    harness.type_text("hello");
    let question = Confirm {
        title: "Undo the rewind?".into(),
        text: Vec::new(),
        confirm_label: "undo",
        on_confirm: TerminalCommand::Quit.into(),
    };
    harness.model.modals.push(Modal::Confirm(question));
    harness.press(KeyCode::Enter, NONE);
    assert!(!harness.model.modals.is_empty() && !harness.effects.contains(&TerminalCommand::Quit.into()));
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&TerminalCommand::Quit.into()));
}

#[test]
fn an_esc_that_follows_one_which_closed_a_screen_does_not_stop_the_reply() {
    let mut harness = chat();
    harness.submit("one");
    harness.press(KeyCode::F(1), NONE);
    harness.press(KeyCode::Esc, NONE);
    harness.effects.clear();
    harness.press(KeyCode::Esc, NONE);
    assert!(!harness.effects.contains(&Request::Interrupt.into()));
    assert!(notice(&harness).contains("press Esc again"), "{}", notice(&harness));
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.effects.contains(&Request::Interrupt.into()));
}

#[test]
fn ctrl_d_leaves_at_once_unless_something_would_be_lost() {
    let mut harness = chat();
    harness.press(KeyCode::Char('d'), CONTROL);
    assert!(harness.model.quitting);
    let mut harness = chat();
    harness.send(Msg::Paste("a draft".into()));
    harness.press(KeyCode::Char('d'), CONTROL);
    assert!(!harness.model.quitting);
    // During a reply, it is the first of two keys.
    let mut harness = chat();
    harness.submit("go");
    harness.press(KeyCode::Char('d'), CONTROL);
    assert!(!harness.model.quitting && harness.model.pending_confirmation.is_some());
}

fn found_paths(typed: &str, paths: Vec<String>, left_out: usize) -> PathCompletion {
    PathCompletion { typed: typed.to_owned(), found: FoundPaths { paths, left_out } }
}

#[test]
fn a_mention_of_a_file_is_completed_at_the_cursor() {
    let mut harness = chat();
    let complete = |harness: &mut Harness, typed: &str, paths: &[&str]| {
        assert!(harness.requests().any(|request| *request == Request::CompletePath(typed.into())), "{typed}");
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        harness.send(Msg::PathsCompleted(found_paths(typed, paths, 0)));
    };
    for character in "see @s".chars() {
        harness.press(KeyCode::Char(character), NONE);
    }
    complete(&mut harness, "s", &["src/", "setup.py"]);
    assert!(screen_text(&harness).contains("setup.py"));
    harness.press(KeyCode::Tab, NONE);
    assert_eq!(harness.model.chat.input.text(), "see @src/");
    complete(&mut harness, "src/", &["src/a b.rs", "src/main.rs"]);
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(harness.model.chat.input.text(), "see @\"src/a b.rs\" ");
    // The mention is complete, so Enter sends the message.
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(take_sent(&mut harness), ["see @\"src/a b.rs\" "]);
    // An address is no mention, and the path of a picture becomes one.
    harness.effects.clear();
    harness.send(Msg::Paste("me@s".into()));
    harness.press(KeyCode::Char('x'), NONE);
    assert!(!harness.requests().any(|request| matches!(request, Request::CompletePath(_))));
    harness.model.chat.input.set("");
    harness.send(Msg::Paste("'/tmp/My shot.png'".into()));
    assert_eq!(harness.model.chat.input.text(), "@\"/tmp/My shot.png\" ");
}

#[test]
fn paths_for_an_older_mention_do_not_replace_those_for_the_newer_one() {
    let mut harness = chat();
    harness.type_text("@sr");
    for typed in ["sr", "s"] {
        let paths = vec![format!("{typed}/")];
        harness.send(Msg::PathsCompleted(found_paths(typed, paths, 0)));
    }
    assert_eq!(harness.model.mention_completions(), ["sr/"]);
}

#[test]
fn a_pasted_mention_is_completed() {
    let mut harness = chat();
    harness.send(Msg::Paste("see @src/ma".into()));
    assert!(harness.requests().any(|request| *request == Request::CompletePath("src/ma".into())));
}

#[test]
fn the_list_of_a_project_without_sessions_shows_those_of_all_projects() {
    let page = |items| Page { items, next: None, unreadable: 0 };
    let listed = |harness: &Harness| {
        let requests: Vec<_> = harness.requests().cloned().collect();
        requests.into_iter().rev().find_map(|request| match request {
            Request::ListSessions { filter, request_id, .. } => Some((filter.project, request_id)),
            _ => None,
        })
    };
    let mut harness = empty();
    harness.model.project = Some(Project { directory: "/home/me/new".into(), repository: None });
    harness.submit("/sessions");
    let (project, request_id) = listed(&harness).unwrap();
    assert!(project.is_some());
    harness.send(Msg::Screen(ScreenMsg::Sessions { request_id, result: Ok(page(Vec::new())) }));
    let (project, request_id) = listed(&harness).unwrap();
    assert_eq!(project, None);
    let sessions = vec![opened_elsewhere().summary];
    harness.send(Msg::Screen(ScreenMsg::Sessions { request_id, result: Ok(page(sessions)) }));
    let text = screen_text(&harness);
    assert!(text.contains("elsewhere") && text.contains("this one has none yet"), "{text}");
}

#[test]
fn an_empty_list_stays_if_the_user_chose_it_or_filtered_it() {
    fn empty_page(harness: &mut Harness) {
        let ids = harness.requests().filter_map(|request| match request {
            Request::ListSessions { request_id, .. } => Some(*request_id),
            _ => None,
        });
        let request_id = ids.last().unwrap();
        let page = Page { items: Vec::new(), next: None, unreadable: 0 };
        harness.effects.clear();
        harness.send(Msg::Screen(ScreenMsg::Sessions { request_id, result: Ok(page) }));
        assert!(!harness.requests().any(|request| matches!(request, Request::ListSessions { .. })));
    }
    let opened = || {
        let mut harness = empty();
        harness.model.project = Some(Project { directory: "/home/me/new".into(), repository: None });
        harness.submit("/sessions");
        harness
    };
    let mut harness = opened();
    harness.press(KeyCode::Tab, NONE);
    harness.press(KeyCode::Tab, NONE);
    empty_page(&mut harness);
    assert!(screen_text(&harness).contains("the trash is empty"));
    let mut harness = opened();
    harness.type_text("tool:none");
    empty_page(&mut harness);
    let text = screen_text(&harness);
    assert!(text.contains("no session of this project or tool") && !text.contains("this one has none"));
}

#[test]
fn a_model_chosen_for_a_session_is_not_used_in_another_one() {
    let mut harness = chat();
    harness.submit("/model");
    let models = Ok(vec!["small".to_owned(), "large".to_owned()]);
    harness.send(Msg::Screen(ScreenMsg::Models(models)));
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Enter, NONE);
    let used = |model: Option<&str>| Request::UseModel { model: model.map(str::to_owned) };
    assert!(harness.requests().any(|request| *request == used(Some("large"))), "{:?}", harness.effects);
    let applied = ConfigApplied { key: "model".into(), settings: None, agent: None, note: String::new() };
    harness.send(Msg::ModelUsed { for_session: true, result: Ok(applied.clone()) });
    harness.effects.clear();
    harness.submit("/new");
    assert!(harness.requests().any(|request| *request == used(None)));
    // The configured model needs no return.
    harness.send(Msg::ModelUsed { for_session: false, result: Ok(applied) });
    harness.effects.clear();
    harness.submit("/new");
    assert!(!harness.requests().any(|request| matches!(request, Request::UseModel { .. })));
}

#[test]
fn the_first_ctrl_c_expires() {
    let mut harness = chat();
    harness.press(KeyCode::Char('c'), CONTROL);
    let (_, timer_id) = harness.model.pending_confirmation.unwrap();
    harness.send(Msg::Timer(Timer::ConfirmationExpired(timer_id)));
    harness.press(KeyCode::Char('c'), CONTROL);
    assert!(!harness.model.quitting);
}

#[test]
fn esc_twice_opens_the_checkpoints_but_never_loses_the_input() {
    let mut harness = chat();
    harness.press(KeyCode::Esc, NONE);
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.title() == Some("Checkpoints"));
    let mut harness = chat();
    harness.type_text("draft");
    harness.press(KeyCode::Esc, NONE);
    assert_eq!(harness.model.chat.input.text(), "draft");
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.model.screen.is_none() && harness.model.chat.input.is_empty());
    harness.press(KeyCode::Up, NONE);
    assert_eq!(harness.model.chat.input.text(), "draft");
}

#[test]
fn up_and_down_walk_through_the_history_and_back_to_the_draft() {
    let mut harness = empty();
    harness.send(Msg::History(vec!["newer".into(), "older".into()]));
    harness.type_text("draft");
    for expected in ["newer", "older", "older"] {
        harness.press(KeyCode::Up, NONE);
        assert_eq!(harness.model.chat.input.text(), expected);
    }
    for expected in ["newer", "draft", "draft"] {
        harness.press(KeyCode::Down, NONE);
        assert_eq!(harness.model.chat.input.text(), expected);
    }
}

#[test]
fn every_command_has_an_effect_with_and_without_a_session() {
    for spec in COMMANDS {
        for mut harness in [empty(), chat()] {
            harness.effects.clear();
            let sidebar = harness.model.sidebar;
            harness.submit(&format!("/{}", spec.name()));
            let screen_or_modal = harness.model.screen.is_some() || !harness.model.modals.is_empty();
            let chat_changed = harness.model.notice.is_some() || sidebar != harness.model.sidebar;
            assert!(
                screen_or_modal || chat_changed || !harness.effects.is_empty(),
                "/{} did nothing",
                spec.name()
            );
        }
    }
}

#[test]
fn command_keys_open_their_screens() {
    for (code, modifiers, expected) in [
        (KeyCode::F(1), NONE, "Help"),
        (KeyCode::F(3), NONE, "Inspect"),
        (KeyCode::F(4), NONE, "Branches"),
        (KeyCode::Char('s'), CONTROL, "Sessions"),
        (KeyCode::Char('t'), CONTROL, "Checkpoints"),
        (KeyCode::Char('f'), CONTROL, "Search"),
    ] {
        let mut harness = chat();
        harness.press(code, modifiers);
        assert_eq!(harness.title(), Some(expected), "{code:?}");
        harness.press(KeyCode::Esc, NONE);
        assert!(harness.model.screen.is_none(), "Esc closes {expected}");
    }
}

#[test]
fn the_palette_runs_the_selected_command() {
    let mut harness = chat();
    harness.press(KeyCode::Char('p'), CONTROL);
    harness.type_text("inspect");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.title() == Some("Inspect"));
    let mut harness = with_keys(KeyMode::Emacs);
    harness.press(KeyCode::Char('x'), KeyModifiers::ALT);
    assert!(matches!(harness.model.modals.last(), Some(Modal::Palette { .. })));
}

#[test]
fn keys_in_vims_normal_mode_do_not_insert_text() {
    let mut harness = with_keys(KeyMode::Vim);
    harness.type_text("abc");
    harness.press(KeyCode::Esc, NONE);
    harness.type_text("xq");
    assert_eq!(harness.model.chat.input.text(), "ab");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.requests().any(|request| matches!(request, Request::Send { text, .. } if text == "ab")));
}

#[test]
fn typing_does_not_approve_a_plugin_by_accident() {
    let mut harness = set_up("approval");
    harness.effects.clear();
    harness.type_text("a yes y approve");
    assert!(matches!(harness.model.modals.last(), Some(Modal::Approval { .. })), "the modal has the focus");
    assert_eq!(harness.model.chat.input.text(), "a yes y approve", "what is typed is not lost");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.model.modals.is_empty());
    assert!(!harness.requests().any(|request| matches!(request, Request::DecidePlugin { .. })));
}

#[test]
fn a_plugin_is_approved_by_selecting_approve() {
    let mut harness = set_up("approval");
    harness.press(KeyCode::Right, NONE);
    harness.press(KeyCode::Right, NONE);
    harness.press(KeyCode::Enter, NONE);
    let decision = PluginDecision::Approve;
    assert!(
        harness.effects.contains(&Request::DecidePlugin { plugin: "word-count".into(), decision }.into())
    );
    // Until the decision is stored, the user is not asked again.
    let view = harness.model.plugins.clone();
    harness.send(Msg::Plugins(Box::new(view.clone())));
    assert!(harness.model.modals.is_empty());
    harness.send(Msg::PluginDecided(Ok(())));
    harness.send(Msg::Plugins(Box::new(view)));
    assert!(matches!(harness.model.modals.last(), Some(Modal::Approval { .. })));
}

#[test]
fn an_approval_that_was_decided_elsewhere_is_closed() {
    let mut harness = set_up("approval");
    let view = harness.model.plugins.clone();
    harness.send(Msg::Plugins(Box::new(view.clone())));
    assert!(matches!(harness.model.modals.last(), Some(Modal::Approval { .. })));
    harness.send(Msg::Plugins(Box::new(PluginView { pending: Vec::new(), ..view })));
    assert!(harness.model.modals.is_empty());
}

#[test]
fn a_search_can_be_limited_to_a_project_and_a_tool() {
    let mut harness = chat();
    harness.submit("/search tool:codex refused project:gate");
    let Some(Effect::Request(Request::Search { query, .. })) = harness.effects.last() else {
        panic!("no search: {:?}", harness.effects);
    };
    assert_eq!(query.text, "refused", "a word before a filter is complete");
    assert_eq!(query.sessions.tool.as_deref(), Some("codex"));
    assert_eq!(query.sessions.project_contains.as_deref(), Some("gate"));
}

#[test]
fn a_late_search_result_is_ignored() {
    let mut harness = chat();
    harness.submit("/search one");
    let Some(Effect::Request(Request::Search { request_id, .. })) = harness.effects.last().cloned() else {
        panic!("{:?}", harness.effects)
    };
    harness.type_text("x");
    let late = hfs_core::SearchResults { hits: Vec::new(), total: 99, unreadable: 0 };
    harness.send(Msg::Screen(ScreenMsg::SearchResults { request_id, result: Ok(late) }));
    assert!(!format!("{:?}", harness.draw().0).contains("99"));
}

#[test]
fn deleting_the_open_session_starts_a_new_conversation() {
    let mut harness = chat();
    let session = harness.model.chat.conversation.session().unwrap();
    harness.submit("/delete");
    harness.effects.clear();
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(harness.effects, [Change::Trash(session).into()]);
    harness.send(changed(Ok(Changed::Trashed { session })));
    assert_eq!(harness.model.chat.conversation.session(), None);
}

#[test]
fn an_error_is_shown_with_its_suggestion() {
    let mut harness = empty();
    let failure = ErrorReport {
        kind: ErrorKind::NotFound,
        message: "no session".into(),
        suggestion: Some("try another".into()),
    };
    harness.send(Msg::Opened(Err(failure)));
    assert_eq!(notice(&harness), "no session (try another)");
}

#[test]
fn a_drag_copies_the_selection_and_a_click_does_not() {
    let mut harness = chat();
    let mouse = |kind, column| MouseEvent { kind, column, row: 3, modifiers: NONE };
    harness.send(Msg::Mouse(mouse(MouseEventKind::Down(MouseButton::Left), 3)));
    harness.send(Msg::Mouse(mouse(MouseEventKind::Up(MouseButton::Left), 3)));
    assert!(!harness.effects.contains(&TerminalCommand::CopySelection.into()));
    harness.send(Msg::Mouse(mouse(MouseEventKind::Down(MouseButton::Left), 3)));
    harness.send(Msg::Mouse(mouse(MouseEventKind::Drag(MouseButton::Left), 9)));
    harness.send(Msg::Mouse(mouse(MouseEventKind::Up(MouseButton::Left), 9)));
    assert!(harness.effects.contains(&TerminalCommand::CopySelection.into()));
}

#[test]
fn an_idle_app_sets_no_timers() {
    let mut harness = chat();
    harness.effects.clear();
    for _ in 0..10 {
        harness.send(Msg::Timer(Timer::Spin));
    }
    assert!(harness.effects.is_empty(), "{:?}", harness.effects);
}

#[test]
fn a_message_is_sent_once_and_shown_as_unsaved_until_it_is_durable() {
    let mut harness = chat();
    harness.effects.clear();
    harness.submit("hello");
    let is_sent = |request: &&Request| matches!(request, Request::Send { text, .. } if text == "hello");
    assert_eq!(harness.requests().filter(is_sent).count(), 1);
    assert_eq!(harness.model.chat.save, SaveState::Saving);
    assert!(harness.model.chat.input.is_empty());
    harness.send(Msg::Exchange(Update::Sent(Arc::new(message(8, Role::User, "hello")))));
    assert_eq!(harness.model.chat.save, SaveState::Saved);
    assert_eq!(harness.model.chat.transcript.messages().next_back().unwrap().seq, 8);
}

#[test]
fn the_first_message_gives_a_conversation_its_session() {
    let mut harness = empty();
    harness.submit("hello");
    let session = SessionId::generate();
    harness.send(Msg::Exchange(Update::SessionCreated { session, name: "Hello".into() }));
    let message = message(1, Role::User, "hello");
    let branch = message.branch;
    harness.send(Msg::Exchange(Update::Sent(Arc::new(message))));
    let expected = Conversation::at(session, Position { branch, head: 1 });
    assert_eq!(harness.model.chat.conversation, expected);
    assert_eq!(harness.model.exit().session, Some(session));
}

#[test]
fn commands_cannot_move_the_conversation_during_a_reply() {
    let mut harness = chat();
    harness.submit("one");
    for command in ["/new", "/undo", "/fork", "/delete"] {
        harness.submit(command);
        assert!(notice(&harness).contains("in progress"), "{command}");
    }
}

/// Removes all effects and returns the texts of the messages that they send.
fn take_sent(harness: &mut Harness) -> Vec<String> {
    let texts = harness.effects.drain(..).filter_map(|effect| match effect {
        Effect::Request(Request::Send { text, .. }) => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn messages_written_during_a_reply_are_queued_and_sent_one_by_one() {
    let mut harness = chat();
    harness.submit("one");
    harness.submit("two");
    harness.submit("three");
    assert_eq!(take_sent(&mut harness), ["one"]);
    assert!(harness.model.chat.input.is_empty());
    end_exchange(&mut harness, Ok(exchange(None)));
    assert_eq!(take_sent(&mut harness), ["two"]);
    end_exchange(&mut harness, Ok(exchange(None)));
    assert_eq!(take_sent(&mut harness), ["three"]);
    end_exchange(&mut harness, Ok(exchange(None)));
    assert_eq!(take_sent(&mut harness), [""; 0]);
}

#[test]
fn after_an_incomplete_reply_queued_messages_return_to_the_input() {
    for failure in
        [AgentError::Cancelled, AgentError::Malformed { provider: "openai".into(), message: "gone".into() }]
    {
        let mut harness = chat();
        harness.submit("one");
        harness.submit("two");
        harness.submit("three");
        harness.send(Msg::Paste("a draft".into()));
        harness.effects.clear();
        end_exchange(&mut harness, Ok(exchange(Some(failure))));
        assert_eq!(take_sent(&mut harness), [""; 0]);
        assert_eq!(harness.model.chat.input.text(), "two\n\nthree\n\na draft");
    }
}

#[test]
fn a_message_submitted_while_a_reply_stops_is_sent() {
    let mut harness = chat();
    harness.submit("one");
    harness.submit("for the end of the reply");
    harness.effects.clear();
    harness.press(KeyCode::Esc, NONE);
    assert_eq!(harness.model.chat.input.text(), "for the end of the reply");
    harness.model.chat.input.take();
    harness.submit("Continue");
    assert_eq!(take_sent(&mut harness), [""; 0], "the reply has not stopped yet");
    end_exchange(&mut harness, Ok(exchange(Some(AgentError::Cancelled))));
    assert_eq!(take_sent(&mut harness), ["Continue"]);
    assert!(harness.model.chat.input.is_empty());

    harness.press(KeyCode::Esc, NONE);
    harness.submit("Continue");
    harness.effects.clear();
    let failure = AgentError::Malformed { provider: "openai".into(), message: "gone".into() };
    end_exchange(&mut harness, Ok(exchange(Some(failure))));
    assert_eq!(take_sent(&mut harness), [""; 0], "the reply has failed");
    assert_eq!(harness.model.chat.input.text(), "Continue");
}

#[test]
fn up_edits_queued_messages_before_the_history() {
    let mut harness = chat();
    harness.submit("one");
    harness.submit("two");
    harness.submit("three");
    harness.press(KeyCode::Up, NONE);
    assert_eq!(harness.model.chat.input.text(), "three");
    assert_eq!(harness.model.chat.queue, ["two"]);
}

#[test]
fn quitting_with_queued_messages_needs_confirmation() {
    let mut harness = chat();
    harness.submit("one");
    harness.submit("two");
    harness.effects.clear();
    harness.submit("/exit");
    assert!(!harness.effects.contains(&TerminalCommand::Quit.into()));
    harness.press(KeyCode::Esc, NONE);
    assert_eq!(harness.model.chat.queue, ["two"]);
    harness.submit("/exit");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&TerminalCommand::Quit.into()));
}

#[test]
fn a_conflict_keeps_the_text_written_after_the_message() {
    let mut harness = chat();
    harness.submit("mine");
    harness.send(Msg::Paste("a draft".into()));
    let at = |head| Position { branch: BranchId::generate(), head };
    let source = StoreError::HeadMismatch { expected: at(7), found: at(9) };
    end_exchange(&mut harness, Err(SendError::NotSaved { text: "mine".into(), source }));
    assert_eq!(harness.model.chat.input.text(), "mine\n\na draft");
    harness.press(KeyCode::Char('f'), NONE);
    assert!(
        harness
            .requests()
            .any(|request| matches!(request, Request::SendOnFork { text, .. } if text == "mine"))
    );
    assert_eq!(harness.model.chat.input.text(), "a draft");
}

#[test]
fn no_letter_of_a_text_answers_a_conflict() {
    let mut harness = set_up("conflict");
    pass_time(&mut harness, 20_000);
    harness.effects.clear();
    harness.type_text("before");
    assert_eq!(harness.model.chat.input.text(), "before");
    assert!(matches!(harness.model.modals.last(), Some(Modal::Conflict { .. })));
    assert!(!harness.requests().any(|request| matches!(request, Request::Open { .. })));
    pass_time(&mut harness, 5_000);
    harness.press(KeyCode::Char('r'), NONE);
    assert!(harness.requests().any(|request| matches!(request, Request::Open { .. })), "after a pause");
}

#[test]
fn esc_stops_the_reply_once() {
    let mut harness = chat();
    harness.submit("one");
    harness.effects.clear();
    harness.press(KeyCode::Esc, NONE);
    harness.press(KeyCode::Esc, NONE);
    assert_eq!(harness.effects, [Request::Interrupt.into()]);
    end_exchange(&mut harness, Ok(exchange(Some(AgentError::Cancelled))));
    assert!(!harness.model.chat.is_busy());
    assert!(harness.model.chat.error_banner.is_none());
}

#[test]
fn a_provider_error_can_be_retried() {
    let mut harness = chat();
    harness.submit("hello");
    let message = Arc::new(message(8, Role::User, "hello"));
    harness.send(Msg::Exchange(Update::Sent(Arc::clone(&message))));
    let error = AgentError::Unavailable {
        provider: "openai".into(),
        message: "503".into(),
        retry_after: None,
        suggestion: None,
    };
    end_exchange(&mut harness, Ok(exchange(Some(error))));
    assert!(harness.model.chat.error_banner.is_some());
    harness.effects.clear();
    harness.press(KeyCode::F(5), NONE);
    assert!(
        harness.requests().any(|request| matches!(request, Request::Retry { user, .. } if user.seq == 8))
    );
    assert!(harness.model.chat.is_busy() && harness.model.chat.error_banner.is_none());
}

#[test]
fn a_message_that_was_not_saved_returns_to_the_input() {
    let mut harness = chat();
    harness.submit("precious");
    let source = StoreError::Unavailable { action: "write".into(), source: "disk full".into() };
    end_exchange(&mut harness, Err(SendError::NotSaved { text: "precious".into(), source }));
    assert_eq!(harness.model.chat.input.text(), "precious");
    assert!(harness.model.chat.error_banner.as_ref().unwrap().message.contains("disk full"));
    harness.effects.clear();
    harness.press(KeyCode::Enter, NONE);
    assert!(
        harness.requests().any(|request| matches!(request, Request::Send { text, .. } if text == "precious"))
    );
}

#[test]
fn a_conflict_offers_a_fork_or_a_reload() {
    let cause_conflict = |harness: &mut Harness| {
        harness.submit("mine");
        let at = |head| Position { branch: BranchId::generate(), head };
        let source = StoreError::HeadMismatch { expected: at(7), found: at(9) };
        end_exchange(harness, Err(SendError::NotSaved { text: "mine".into(), source }));
        assert!(matches!(harness.model.modals.last(), Some(Modal::Conflict { .. })));
        harness.effects.clear();
    };
    let mut harness = chat();
    cause_conflict(&mut harness);
    assert!(screen_text(&harness).contains("Another process has added 2 messages to it."));
    harness.press(KeyCode::Char('f'), NONE);
    assert!(
        harness
            .requests()
            .any(|request| matches!(request, Request::SendOnFork { text, .. } if text == "mine"))
    );
    let mut harness = chat();
    cause_conflict(&mut harness);
    harness.press(KeyCode::Char('r'), NONE);
    assert!(harness.requests().any(|request| matches!(request, Request::Open { .. })));
    assert_eq!(harness.model.chat.input.text(), "mine");
}

#[test]
fn a_lost_connection_to_the_store_is_shown_until_there_is_another_one() {
    let mut harness = chat();
    harness.send(Msg::Reconnecting(true));
    assert!(screen_text(&harness).contains("reconnecting to the store"));
    harness.send(Msg::Reconnecting(false));
    assert!(!screen_text(&harness).contains("reconnecting"));
}

#[test]
fn an_unsaved_reply_is_reported_and_stays_visible() {
    let mut harness = chat();
    harness.submit("hello");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(message(8, Role::User, "hello")))));
    harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text("part of it"))));
    harness.send(Msg::Exchange(Update::NotSaved { reason: "no space".into() }));
    harness.send(Msg::Exchange(Update::Delta(ReplyDelta::text(" and more"))));
    assert_eq!(harness.model.chat.save, SaveState::NotSaved("no space".into()));
    let frame = format!("{:?}", harness.draw().0);
    assert!(frame.contains("part of it and more") && frame.contains("NOT SAVED"));
    harness.send(Msg::Exchange(Update::Saved));
    assert_eq!(harness.model.chat.save, SaveState::Saved);
}

fn opened_elsewhere() -> Opened {
    let mut harness = set_up("chat");
    harness.press(KeyCode::F(4), NONE);
    let mut opened = crate::gallery::opened_session();
    let session = SessionId::generate();
    opened.conversation =
        Conversation::at(session, Position { branch: opened.branch.id, head: opened.branch.head });
    opened.summary.session.id = session;
    opened.summary.session.name = "elsewhere".into();
    opened
}

#[test]
fn a_message_written_while_a_session_opens_is_sent_to_that_session() {
    let mut harness = chat();
    let opened = opened_elsewhere();
    let session = opened.conversation.session().unwrap();
    let open = vec![Action::run(Request::Open { session, branch: None, at: None })];
    let effects = harness.model.perform(open);
    harness.model.count_moves(&effects);
    harness.submit("for the new one");
    assert_eq!(take_sent(&mut harness), [""; 0]);
    harness.send(Msg::Opened(Ok(Box::new(opened))));
    assert!(harness.requests().any(|request| matches!(
        request,
        Request::Send { conversation, text } if conversation.session() == Some(session) && text == "for the new one"
    )));
}

#[test]
fn a_message_for_a_session_that_cannot_be_opened_returns_to_the_input() {
    let mut harness = chat();
    harness.model.chat.moves_in_progress = 1;
    harness.submit("for the other one");
    harness.send(Msg::Opened(Err(ErrorReport::new(ErrorKind::NotFound, "gone"))));
    assert_eq!(take_sent(&mut harness), [""; 0]);
    assert_eq!(harness.model.chat.input.text(), "for the other one");
}

#[test]
fn an_opened_session_does_not_replace_the_one_whose_reply_is_in_progress() {
    let mut harness = chat();
    let session = harness.model.chat.conversation.session();
    harness.submit("hello");
    harness.send(Msg::Opened(Ok(Box::new(opened_elsewhere()))));
    assert_eq!(harness.model.chat.conversation.session(), session);
    assert_ne!(harness.model.chat.name.as_deref(), Some("elsewhere"));
    assert!(notice(&harness).contains("in progress"));
}

#[test]
fn a_rewind_that_was_planned_for_another_session_is_dropped() {
    let mut harness = chat();
    harness.model.chat.is_planning_rewind = true;
    harness.send(Msg::Opened(Ok(Box::new(opened_elsewhere()))));
    let late = Err(ErrorReport::new(ErrorKind::NotFound, "a late plan"));
    harness.send(Msg::Screen(ScreenMsg::RewindPlanned(late)));
    assert!(!notice(&harness).contains("a late plan"));
}

#[test]
fn a_crash_of_the_exchange_ends_it_and_keeps_what_was_written() {
    let mut harness = chat();
    harness.submit("precious");
    harness.submit("queued");
    harness.effects.clear();
    harness.send(Msg::ExchangeCrashed(ErrorReport::new(ErrorKind::Internal, "it crashed")));
    assert!(!harness.model.chat.is_busy());
    assert_eq!(harness.model.chat.input.text(), "precious\n\nqueued");
    assert!(harness.model.chat.error_banner.as_ref().unwrap().message.contains("crashed"));
    assert!(harness.requests().any(|request| matches!(request, Request::Open { .. })));
    harness.send(Msg::Opened(Ok(Box::new(crate::gallery::opened_session()))));
    assert!(harness.model.chat.error_banner.is_some(), "reading the branch again does not hide the error");
}

#[test]
fn every_permission_of_an_approval_can_be_seen_on_a_small_terminal() {
    let mut harness = set_up("approval");
    let request = crate::ports::ApprovalRequest {
        plugin: "greedy".into(),
        version: "1.0.0".into(),
        about: "Wants it all.".into(),
        permissions: (0..30).map(|number| format!("permission number {number}.")).collect(),
        new_permissions: Vec::new(),
    };
    harness.model.modals = vec![Modal::Approval { request, choice: 0, scroll: Cell::default() }];
    harness.send(Msg::Resized(60, 12));
    let mut seen = String::new();
    for _ in 0..40 {
        let text = screen_text(&harness);
        assert!(text.contains("Not now"), "{text}");
        seen.push_str(&text);
        harness.press(KeyCode::Down, NONE);
    }
    for number in 0..30 {
        assert!(seen.contains(&format!("permission number {number}.")), "{number}");
    }
    // At the end, one step up moves at once.
    let end = screen_text(&harness);
    harness.press(KeyCode::Up, NONE);
    assert_ne!(screen_text(&harness), end);
}

#[test]
fn a_pasted_name_selects_the_best_match_and_shows_its_preview() {
    let mut harness = set_up("sessions");
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Down, NONE);
    harness.effects.clear();
    harness.send(Msg::Paste("login".into()));
    let previewed = harness.requests().any(|request| matches!(request, Request::ReadPreview { .. }));
    assert!(previewed, "{:?}", harness.effects);
    // Without a selected row, no preview remains.
    harness.send(Msg::Paste("no such session".into()));
    assert!(!screen_text(&harness).contains("Three times"), "{}", screen_text(&harness));
}

#[test]
fn a_screen_whose_data_cannot_be_read_does_not_stay_loading() {
    for (command, failed) in [
        ("/inspect", "runs"),
        ("/branches", "branches"),
        ("/checkpoints", "checkpoints"),
        ("/sessions", "sessions"),
        ("/stats", "statistics"),
    ] {
        let mut harness = chat();
        harness.submit(command);
        assert!(screen_text(&harness).contains("loading"), "{failed}");
        harness.send(Msg::Failed(ErrorReport::new(ErrorKind::Internal, "a crash")));
        assert!(!screen_text(&harness).contains("loading"), "{failed}");
    }
    let mut harness = chat();
    let session = harness.model.chat.conversation.session().unwrap();
    harness.submit("/inspect");
    let result = Err(ErrorReport::new(ErrorKind::Unavailable, "disk"));
    harness.send(Msg::Screen(ScreenMsg::Runs { session, result }));
    assert!(!screen_text(&harness).contains("loading"));
}

/// The newest request of statistics.
fn stats_request(harness: &Harness) -> (crate::protocol::StatsRequest, u64) {
    let newest = harness.effects.iter().rev().find_map(|effect| match effect {
        Effect::Request(Request::ReadStats { query, request_id }) => Some((query.clone(), *request_id)),
        _ => None,
    });
    newest.expect("a request of statistics")
}

#[test]
fn the_statistics_are_read_again_for_another_time_and_for_the_project() {
    let mut harness = chat();
    harness.submit("/stats");
    let (all, first) = stats_request(&harness);
    assert_eq!((all.since, all.project.as_deref()), (None, None));
    harness.press(KeyCode::Char('t'), NONE);
    let (today, second) = stats_request(&harness);
    let start = today.since.unwrap();
    assert!(start <= harness.model.render.now && harness.model.render.now.millis_since(start) < 86_400_000);
    harness.press(KeyCode::Char('p'), NONE);
    assert!(stats_request(&harness).0.project.is_some());
    // A result of an earlier request is not shown.
    for request_id in [first, second] {
        let result = Ok(Box::new(crate::gallery::stats()));
        harness.send(Msg::Screen(ScreenMsg::Stats { request_id, result }));
        assert!(screen_text(&harness).contains("loading"), "{}", screen_text(&harness));
    }
}

#[test]
fn leaving_the_statistics_stops_reading_them() {
    let mut harness = chat();
    harness.submit("/stats");
    let (_, request_id) = stats_request(&harness);
    let stop = Effect::Request(Request::StopStats { request_id });
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.model.screen.is_none() && harness.effects.contains(&stop));
    // Without the screen, its progress is the sign that they are still read.
    harness.effects.clear();
    harness.send(Msg::Screen(ScreenMsg::StatsProgress { request_id, read: 1, sessions: 2 }));
    assert_eq!(harness.effects, [stop]);
}

#[test]
fn every_row_of_the_statistics_can_be_reached_and_unknown_numbers_are_not_zero() {
    let mut harness = set_up("stats-days");
    harness.send(Msg::Resized(60, 14));
    assert!(screen_text(&harness).contains("2026-01-31"), "{}", screen_text(&harness));
    let mut seen = String::new();
    for _ in 0..12 {
        seen.push_str(&screen_text(&harness));
        harness.press(KeyCode::Down, NONE);
    }
    for text in ["2026-01-21", "unknown", "total"] {
        assert!(seen.contains(text), "{text} in {seen}");
    }
    // The days of unknown time have no tokens, which is not the same as none.
    harness.press(KeyCode::Home, NONE);
    for _ in 0..11 {
        harness.press(KeyCode::Down, NONE);
    }
    harness.press(KeyCode::Enter, NONE);
    harness.send(Msg::Resized(80, 24));
    let figures = screen_text(&harness);
    assert!(figures.contains("88 replies say nothing about their tokens"), "{figures}");
    for unknown in ["input unknown", "read from cache unknown", "output unknown", "cost unknown"] {
        assert!(figures.contains(unknown), "{unknown} in {figures}");
    }
    harness.press(KeyCode::Esc, NONE);
    assert_eq!(harness.title(), Some("Statistics"));
}

#[test]
fn an_unknown_page_of_the_statistics_is_named() {
    let mut harness = chat();
    harness.submit("/stats weather");
    assert_eq!(harness.title(), Some("Statistics"));
    let notice = harness.model.notice.as_ref().unwrap();
    assert!(notice.text.contains("day, project, agent, model, tool"), "{}", notice.text);
}

#[test]
fn a_conflict_that_appears_while_the_user_is_typing_swallows_and_decides_nothing() {
    let mut harness = chat();
    harness.submit("mine");
    harness.type_text("a dr");
    let at = |head| Position { branch: BranchId::generate(), head };
    let source = StoreError::HeadMismatch { expected: at(7), found: at(9) };
    end_exchange(&mut harness, Err(SendError::NotSaved { text: "mine".into(), source }));
    harness.effects.clear();
    harness.type_text("aft for you");
    harness.send(Msg::Paste(" and more".into()));
    assert!(harness.effects.is_empty(), "{:?}", harness.effects);
    assert!(harness.model.chat.input.text().ends_with("a draft for you and more"));
    // After a pause the question can be answered.
    let later = harness.model.render.now.as_micros() + 2_000_000;
    harness.model.render.now = Timestamp::from_micros(later).unwrap();
    harness.press(KeyCode::Char('f'), NONE);
    assert!(harness.requests().any(|request| matches!(request, Request::SendOnFork { .. })));
}

#[test]
fn f5_never_sends_a_draft() {
    let mut harness = empty();
    harness.type_text("not finished");
    harness.effects.clear();
    harness.press(KeyCode::F(5), NONE);
    assert!(
        !harness.requests().any(|request| matches!(request, Request::Send { .. } | Request::Retry { .. }))
    );
    assert_eq!(harness.model.chat.input.text(), "not finished");
}

#[test]
fn after_a_rewind_typing_replaces_the_old_prompt() {
    let mut harness = set_up("rewound");
    let offered = harness.model.chat.input.text().to_owned();
    assert!(!offered.is_empty() && harness.model.chat.input.is_selected());
    harness.type_text("n");
    assert_eq!(harness.model.chat.input.text(), "n");
}

#[test]
fn the_user_is_alerted_after_a_long_reply_that_was_not_watched() {
    let alert = |harness: &Harness| {
        harness.effects.iter().any(|effect| {
            let name = "Why do retries double the load?";
            let text = format!("hfs: the reply in {name} is complete");
            *effect == TerminalCommand::Alert(text).into()
        })
    };
    for (focus, seconds, input_during, expected) in [
        (Some(false), 20, true, true),
        (Some(true), 20, false, false),
        (None, 20, false, true),
        (None, 20, true, false),
        (Some(false), 5, false, false),
    ] {
        let mut harness = chat();
        if let Some(has_focus) = focus {
            harness.send(Msg::FocusChanged { has_focus });
        }
        harness.submit("hello");
        let later = |harness: &mut Harness, micros: i64| {
            let now = harness.model.render.now.as_micros() + micros;
            harness.model.render.now = Timestamp::from_micros(now).unwrap();
        };
        later(&mut harness, 1);
        harness.model.last_input = None;
        if input_during {
            harness.press(KeyCode::PageUp, NONE);
        }
        later(&mut harness, seconds * 1_000_000);
        harness.effects.clear();
        end_exchange(&mut harness, Ok(exchange(None)));
        assert_eq!(alert(&harness), expected, "{focus:?} {seconds} {input_during}");
    }
}

#[test]
fn without_animations_nothing_moves_during_a_reply() {
    let mut harness = Harness::new(AppSettings { animations: false, ..AppSettings::default() }, (100, 30));
    harness.submit("hello");
    assert!(!harness.requests().any(|request| matches!(request, Request::StartTimer(_, Timer::Spin))));
    let before = screen_text(&harness);
    harness.send(Msg::Timer(Timer::Spin));
    let later = harness.model.render.now.as_micros() + 5_000_000;
    harness.model.render.now = Timestamp::from_micros(later).unwrap();
    assert_eq!(screen_text(&harness), before);
}

#[test]
fn a_long_paste_is_folded_and_sent_whole() {
    let mut harness = chat();
    let pasted = "one line\n".repeat(500);
    harness.type_text("Explain ");
    harness.send(Msg::Paste(pasted.clone()));
    let screen = screen_text(&harness);
    assert!(screen.contains("❯ Explain [long text 1]") && screen.contains("500 lines, 4.3 KiB"), "{screen}");
    assert!(!screen.contains("one line"), "{screen}");
    // The draft survives a look at the history.
    harness.send(Msg::History(vec!["older".into()]));
    harness.press(KeyCode::Up, NONE);
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Enter, NONE);
    let sent = harness.requests().find_map(|request| match request {
        Request::Send { text, .. } => Some(text.clone()),
        _ => None,
    });
    assert_eq!(sent, Some(format!("Explain {pasted}")));
}

#[test]
fn up_shows_the_newest_stored_message_as_soon_as_it_arrives() {
    let mut harness = empty();
    harness.press(KeyCode::Up, NONE);
    assert!(harness.requests().any(|request| matches!(request, Request::ReadHistory { .. })));
    assert_eq!(harness.model.chat.input.text(), "");
    harness.send(Msg::History(vec!["of another session".into(), "older".into()]));
    assert_eq!(harness.model.chat.input.text(), "of another session");
    harness.press(KeyCode::Up, NONE);
    assert_eq!(harness.model.chat.input.text(), "older");
    let mut harness = empty();
    harness.press(KeyCode::Up, NONE);
    harness.type_text("typed meanwhile");
    harness.send(Msg::History(vec!["stored".into()]));
    assert_eq!(harness.model.chat.input.text(), "typed meanwhile");
}

#[test]
fn a_second_up_still_waits_for_the_stored_messages() {
    let mut harness = empty();
    harness.press(KeyCode::Up, NONE);
    harness.press(KeyCode::Up, NONE);
    harness.send(Msg::History(vec!["stored".into()]));
    assert_eq!(harness.model.chat.input.text(), "stored");
}

#[test]
fn the_list_of_sessions_is_filtered_by_project_and_tool() {
    let mut harness = set_up("sessions");
    harness.effects.clear();
    harness.type_text("project:gate tool:codex retries");
    let filter = harness.requests().filter_map(|request| match request {
        Request::ListSessions { filter, .. } => Some(filter.clone()),
        _ => None,
    });
    let filter = filter.last().unwrap();
    assert_eq!((filter.project, filter.project_contains.as_deref()), (None, Some("gate")));
    assert_eq!(filter.tool.as_deref(), Some("codex"));
}

#[test]
fn what_agents_wrote_can_be_read_during_and_after_a_run() {
    for scene in ["inspect-agents", "negotiating"] {
        let mut harness = set_up(scene);
        if scene == "negotiating" {
            harness.press(KeyCode::F(3), NONE);
        }
        assert!(screen_text(&harness).contains("The client's own loop is the cause"), "{scene}");
        harness.press(KeyCode::Enter, NONE);
        let read = screen_text(&harness);
        assert!(read.contains("keep the bound in one place") && read.contains("position"), "{read}");
        harness.press(KeyCode::Esc, NONE);
        harness.press(KeyCode::Char('2'), NONE);
        harness.press(KeyCode::Down, NONE);
        harness.press(KeyCode::Enter, NONE);
        let about = screen_text(&harness);
        assert!(
            about.contains("section fix") && about.contains("holds it: the loop is in our code"),
            "{about}"
        );
    }
}

#[test]
fn rows_of_checkpoints_show_the_words_that_they_belong_to() {
    let mut harness = set_up("checkpoints");
    let screen = screen_text(&harness);
    assert!(screen.contains("★ Good. Make that change"), "{screen}");
    assert!(screen.contains("before the rewrite  Why do retries"), "{screen}");
    // Checkpoints whose words are not known yet are described by their cause.
    harness = chat();
    harness.submit("/checkpoints");
    assert!(harness.requests().any(|request| matches!(request, Request::ListCheckpoints(_))));
}

#[test]
fn copying_says_what_it_did() {
    let mut harness = chat();
    for (outcome, expected) in [
        (CopyOutcome::Program("wl-copy".into()), "copied it (wl-copy)"),
        (CopyOutcome::Terminal, "OSC 52"),
        (CopyOutcome::TerminalCut { sent: 74_000, total: 200_000 }, "only the first 72.2 KiB of 195.3 KiB"),
    ] {
        harness.send(Msg::Copied { description: "it".into(), outcome });
        assert!(notice(&harness).contains(expected), "{}", notice(&harness));
    }
}

#[test]
fn the_title_of_the_window_is_the_name_of_the_session_without_control_characters() {
    let mut harness = chat();
    harness.model.chat.name = Some("evil\u{1b}]0;x\u{7}name".into());
    let title = harness.model.window_title();
    assert!(title.contains("evil") && title.ends_with("- hfs") && !title.chars().any(char::is_control));
}

/// A turn in progress in which an agent has asked a question, some time ago.
fn asked() -> Harness {
    let mut harness = set_up("tool-running");
    ask(&mut harness, 1);
    harness
}

fn ask(harness: &mut Harness, id: u64) {
    let request = Box::new(crate::gallery::command_permission());
    harness.send(Msg::PermissionAsked { id, request });
    harness.effects.clear();
    pass_time(harness, 1_000);
}

fn pass_time(harness: &mut Harness, millis: i64) {
    let now = harness.model.render.now.as_micros() + millis * 1_000;
    harness.model.render.now = Timestamp::from_micros(now).unwrap();
}

fn answers(harness: &Harness) -> Vec<(u64, PermissionAnswer)> {
    let answers = harness.requests().filter_map(|request| match request {
        Request::AnswerPermission { id, answer } => Some((*id, *answer)),
        _ => None,
    });
    answers.collect()
}

#[test]
fn a_question_of_an_agent_is_answered_by_a_letter_or_by_a_choice() {
    for (letter, expected) in [
        ('y', PermissionAnswer::AllowOnce),
        ('a', PermissionAnswer::AllowAlways),
        ('n', PermissionAnswer::RejectOnce),
        ('v', PermissionAnswer::RejectAlways),
    ] {
        let mut harness = asked();
        harness.press(KeyCode::Char(letter), NONE);
        assert_eq!(answers(&harness), [(1, expected)]);
        assert!(harness.model.modals.is_empty());
    }
    let mut harness = asked();
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(answers(&harness), [], "nothing is chosen yet");
    harness.press(KeyCode::Up, NONE);
    harness.press(KeyCode::BackTab, NONE);
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(answers(&harness), [(1, PermissionAnswer::RejectOnce)]);
}

#[test]
fn a_question_takes_no_key_of_the_text_that_is_being_written() {
    let mut harness = set_up("tool-running");
    harness.type_text("sa");
    let request = Box::new(crate::gallery::command_permission());
    harness.send(Msg::PermissionAsked { id: 1, request });
    harness.type_text("y yes");
    assert_eq!(harness.model.chat.input.text(), "say yes");
    // Also after a pause, as long as there is a text.
    pass_time(&mut harness, 5_000);
    harness.type_text(" and no");
    harness.press(KeyCode::Backspace, NONE);
    harness.send(Msg::Paste("w".into()));
    assert_eq!(harness.model.chat.input.text(), "say yes and nw");
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(harness.model.chat.queue, ["say yes and nw"], "Enter sends the text");
    assert_eq!(answers(&harness), []);
    pass_time(&mut harness, 1_000);
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(answers(&harness), [(1, PermissionAnswer::AllowOnce)]);
}

#[test]
fn a_letter_that_begins_a_message_is_not_an_answer() {
    let mut harness = asked();
    harness.type_text("what");
    assert_eq!((harness.model.chat.input.text(), answers(&harness).len()), ("what", 0));
    // On a screen, letters belong to the screen.
    let mut harness = asked();
    harness.model.modals.clear();
    harness.submit("/search retry");
    ask(&mut harness, 2);
    harness.type_text("yn");
    assert!(screen_text(&harness).contains("Permission"));
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Enter, NONE);
    assert_eq!(answers(&harness), [(2, PermissionAnswer::AllowOnce)]);
    assert!(screen_text(&harness).contains("retryyn"), "{}", screen_text(&harness));
}

#[test]
fn the_repeated_key_of_an_answer_does_not_answer_the_next_question() {
    let mut harness = asked();
    harness.press(KeyCode::Char('y'), NONE);
    let request = Box::new(crate::gallery::command_permission());
    harness.send(Msg::PermissionAsked { id: 2, request });
    harness.press(KeyCode::Char('y'), NONE);
    assert_eq!(answers(&harness), [(1, PermissionAnswer::AllowOnce)]);
    assert!(harness.model.chat.input.is_empty());
    pass_time(&mut harness, 400);
    harness.press(KeyCode::Char('n'), NONE);
    assert_eq!(answers(&harness).last(), Some(&(2, PermissionAnswer::RejectOnce)));
}

#[test]
fn esc_at_a_question_stops_the_turn_and_a_withdrawn_question_is_closed() {
    let mut harness = asked();
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.effects.contains(&Request::Interrupt.into()));
    assert!(harness.model.modals.is_empty() && answers(&harness).is_empty());
    let mut harness = asked();
    harness.send(Msg::PermissionWithdrawn(7));
    assert_eq!(harness.model.modals.len(), 1);
    harness.send(Msg::PermissionWithdrawn(1));
    assert!(harness.model.modals.is_empty());
}

#[test]
fn an_esc_that_was_meant_for_a_screen_does_not_stop_the_turn_of_a_question() {
    let mut harness = set_up("tool-running");
    harness.press(KeyCode::F(1), NONE);
    // The question appears as the user closes the screen.
    let request = Box::new(crate::gallery::command_permission());
    harness.send(Msg::PermissionAsked { id: 1, request });
    harness.press(KeyCode::Esc, NONE);
    assert_eq!((harness.title(), harness.model.modals.len()), (None, 1));
    // The same key again, when the question has been visible for a moment.
    pass_time(&mut harness, 500);
    harness.press(KeyCode::Esc, NONE);
    assert!(!harness.effects.contains(&Request::Interrupt.into()));
    assert_eq!(harness.model.modals.len(), 1);
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.effects.contains(&Request::Interrupt.into()));
    assert!(harness.model.modals.is_empty());
}

#[test]
fn esc_in_vims_normal_mode_stops_the_turn_of_a_question_although_there_is_text_in_the_input() {
    let scene = scenes().into_iter().find(|scene| scene.name == "tool-running").unwrap();
    let settings = AppSettings { keys: KeyMode::Vim, ..AppSettings::default() };
    let mut harness = scene.set_up(settings, (100, 30));
    harness.type_text("and then");
    ask(&mut harness, 1);
    harness.press(KeyCode::Esc, NONE);
    assert!(!harness.effects.contains(&Request::Interrupt.into()), "it ends the insert mode");
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.effects.contains(&Request::Interrupt.into()));
}

#[test]
fn keys_after_the_end_of_a_dialog_do_not_answer_the_question_below_it() {
    let mut harness = set_up("tool-running");
    harness.press(KeyCode::Char('p'), CONTROL);
    ask(&mut harness, 1);
    for key in [KeyCode::Esc, KeyCode::Esc, KeyCode::Char('y')] {
        harness.press(key, NONE);
    }
    assert!(!harness.effects.contains(&Request::Interrupt.into()));
    assert_eq!((answers(&harness), harness.model.modals.len()), (Vec::new(), 1));
    pass_time(&mut harness, 1_000);
    harness.press(KeyCode::Char('y'), NONE);
    assert_eq!(answers(&harness), [(1, PermissionAnswer::AllowOnce)]);
}

#[test]
fn a_question_waits_below_a_dialog_that_the_user_has_opened() {
    let mut harness = set_up("tool-running");
    harness.press(KeyCode::Char('p'), CONTROL);
    ask(&mut harness, 1);
    harness.type_text("you");
    assert!(
        matches!(harness.model.modals.last(), Some(Modal::Palette { query, .. }) if query.text() == "you")
    );
    harness.press(KeyCode::Esc, NONE);
    pass_time(&mut harness, 1_000);
    harness.press(KeyCode::Char('y'), NONE);
    assert_eq!(answers(&harness), [(1, PermissionAnswer::AllowOnce)]);
}

#[test]
fn the_bell_rings_for_a_question_while_the_window_is_without_focus() {
    let mut harness = set_up("tool-running");
    harness.send(Msg::FocusChanged { has_focus: false });
    let request = Box::new(crate::gallery::command_permission());
    harness.send(Msg::PermissionAsked { id: 1, request });
    let alert = TerminalCommand::Alert("hfs: claude asks for a permission".into());
    assert!(harness.effects.contains(&alert.into()));
}

#[test]
fn the_files_of_a_large_change_are_listed_before_the_changes() {
    let mut harness = set_up("tool-running");
    harness.model.size = (80, 24);
    let mut request = crate::gallery::command_permission();
    request.command = None;
    let change =
        |path: String, new: &str| FileChange { path, old: Some("one\n".into()), new: new.to_owned() };
    let long = "line\n".repeat(3_000);
    request.changes = (0..30).map(|number| change(format!("src/file{number}.rs"), &long)).collect();
    request.changes.push(FileChange { path: "/etc/passwd".into(), old: None, new: "root".into() });
    harness.send(Msg::PermissionAsked { id: 1, request: Box::new(request) });
    let mut seen = screen_text(&harness);
    assert!(seen.contains("31 files:") && seen.contains("src/file0.rs  +3000 -1"), "{seen}");
    for _ in 0..8 {
        harness.press(KeyCode::PageDown, NONE);
        seen.push_str(&screen_text(&harness));
    }
    assert!(seen.contains("/etc/passwd  +1 -0 new"), "{seen}");
}

#[test]
fn what_is_asked_is_readable_at_every_size() {
    for size in [(40, 12), (80, 24), (160, 50)] {
        let mut harness = asked();
        harness.model.size = size;
        harness.send(Msg::QuestionsWaiting(2));
        let screen = screen_text(&harness);
        for words in ["claude asks to run a command", "2 more wait", "once", "eject", "Esc"] {
            assert!(screen.contains(words), "{words} at {size:?}: {screen}");
        }
        // The end of a long command can be scrolled to.
        let mut seen = screen;
        for _ in 0..4 {
            harness.press(KeyCode::PageDown, NONE);
            seen.push_str(&screen_text(&harness));
        }
        for words in ["cargo test", "target/tmp"] {
            assert!(seen.contains(words), "{words} at {size:?}: {seen}");
        }
        assert_eq!(answers(&harness), []);
    }
}

fn step(content: &str, status: PlanStepStatus) -> PlanStep {
    PlanStep { content: content.into(), status, priority: String::new() }
}

#[test]
fn the_plan_of_an_agent_is_a_checklist_until_all_is_done() {
    for sidebar in [false, true] {
        let mut harness = set_up("tool-running");
        harness.model.sidebar = Some(sidebar);
        let mut steps = vec![
            step("read the tests", PlanStepStatus::Completed),
            step("mend the retry loop", PlanStepStatus::InProgress),
            step("run everything", PlanStepStatus::Pending),
        ];
        let plan = |steps: &[PlanStep]| {
            event(ToolEvent::PlanUpdated { agent: "claude".into(), steps: steps.to_vec() }.payload().unwrap())
        };
        harness.send(plan(&steps));
        let screen = screen_text(&harness);
        for words in ["1 of 3", "☑ read the tests", "◐ mend the retry", "☐ run everything"] {
            assert!(screen.contains(words), "{words}: {screen}");
        }
        // After the turn, nothing is in progress.
        end_exchange(&mut harness, Ok(exchange(None)));
        let screen = screen_text(&harness);
        assert!(screen.contains("☐ mend the retry") && screen.contains("1 of 3 done · ended"), "{screen}");
        assert!(!screen.contains('◐'), "{screen}");
        harness.submit("go on");
        steps.iter_mut().for_each(|step| step.status = PlanStepStatus::Completed);
        harness.send(plan(&steps));
        assert!(screen_text(&harness).contains("3 of 3"));
        end_exchange(&mut harness, Ok(exchange(None)));
        assert!(!screen_text(&harness).contains("of 3"), "{}", screen_text(&harness));
    }
}

#[test]
fn the_gauge_shows_what_an_agent_reports_of_its_own_context() {
    let mut harness = chat();
    harness.model.agent = AgentDescription::new("claude", "");
    harness.submit("hello");
    let limit = Some(ContextLimit { tokens: 200_000, source: LimitSource::Server });
    let update = ContextUpdate { model: None, tokens: 84_000, limit, left_out: 0, left_out_tokens: 0 };
    harness.send(event(update.payload().unwrap()));
    assert!(screen_text(&harness).contains("context 84k of 200k (42%)"));
    let mut done = exchange(None);
    done.reply.content.usage = Some(Usage::new(900_000, 1_000));
    end_exchange(&mut harness, Ok(done));
    assert!(screen_text(&harness).contains("context 84k of 200k (42%)"), "it is kept after the turn");
}

#[test]
fn an_agent_that_begins_a_session_of_its_own_says_how_it_gets_the_conversation() {
    let mut harness = chat();
    harness.submit("hello");
    let opened = ToolEvent::SessionOpened {
        agent: "codex".into(),
        session: "s".into(),
        how: hfs_core::SessionOpening::New,
        sent_as_text: 7,
        left_out: 2,
    };
    harness.send(event(opened.payload().unwrap()));
    assert!(notice(&harness).contains("as text, without the 2 oldest messages"), "{}", notice(&harness));
}

#[test]
fn an_agent_is_chosen_in_mid_session_and_the_conversation_goes_with_it() {
    let mut harness = chat();
    harness.send(Msg::Agents(crate::gallery::agents(false)));
    harness.type_text("/agent co");
    let screen = screen_text(&harness);
    assert!(screen.contains("/agent codex") && !screen.contains("/agent gemini"), "{screen}");
    harness.press(KeyCode::Enter, NONE);
    let agent = Some("codex".to_owned());
    assert!(harness.effects.contains(&Request::UseAgent { agent }.into()));
    let used = |name: &str, for_session| {
        let agent = Some(AgentDescription::new(name, ""));
        let applied = ConfigApplied { key: "agent".into(), settings: None, agent, note: String::new() };
        Msg::AgentUsed { for_session, result: Ok(applied) }
    };
    harness.send(used("codex", true));
    assert_eq!(notice(&harness), "codex answers from now on; it gets the conversation so far");
    assert!(screen_text(&harness).contains("codex"), "the status bar says who answers");
    // It answers in this session alone.
    harness.effects.clear();
    harness.submit("/new");
    assert!(harness.effects.contains(&Request::UseAgent { agent: None }.into()));
    harness.submit("/agent");
    assert_eq!(harness.title(), Some("Agents"));
    assert!(screen_text(&harness).contains("needs its adapter: npm install"));
}

#[test]
fn a_user_who_has_configured_nothing_is_offered_the_agents_that_are_found() {
    let mut harness = empty();
    harness.send(Msg::Agents(crate::gallery::agents(true)));
    assert!(screen_text(&harness).contains("Claude Code"), "{}", screen_text(&harness));
    harness.submit("hello");
    assert_eq!(harness.title(), Some("Who should answer?"));
    assert!(!harness.requests().any(|request| matches!(request, Request::Send { .. })));
    // Without a choice, nothing is changed, and the message is back.
    harness.press(KeyCode::Esc, NONE);
    assert_eq!((harness.model.chat.input.text(), harness.model.chat.queue.len()), ("hello", 0));
    harness.press(KeyCode::Enter, NONE);
    harness.press(KeyCode::Enter, NONE);
    let set = Request::SetConfig { key: "agent".into(), value: "codex".into() };
    assert!(harness.effects.contains(&set.into()), "{:?}", harness.effects);
    assert!(!harness.requests().any(|request| matches!(request, Request::Send { .. })));
    let agent = Some(AgentDescription::new("codex", ""));
    let applied = ConfigApplied { key: "agent".into(), settings: None, agent, note: String::new() };
    harness.send(Msg::ConfigSet(Ok(applied)));
    assert!(
        harness.requests().any(|request| matches!(request, Request::Send { text, .. } if text == "hello"))
    );
    harness.model.chat.exchange = None;
    harness.submit("again");
    assert_eq!(harness.title(), None, "it asks once");
}

#[test]
fn a_user_who_has_chosen_an_agent_is_not_asked_who_should_answer() {
    let applied = || {
        let agent = Some(AgentDescription::new("codex", ""));
        Ok(ConfigApplied { key: "agent".into(), settings: None, agent, note: String::new() })
    };
    for chosen in [Msg::AgentUsed { for_session: true, result: applied() }, Msg::ConfigSet(applied())] {
        let mut harness = empty();
        harness.send(Msg::Agents(crate::gallery::agents(true)));
        harness.send(chosen);
        // A list that was requested before the choice.
        harness.send(Msg::Agents(crate::gallery::agents(true)));
        harness.submit("hello");
        assert_eq!(harness.title(), None);
        assert_eq!(take_sent(&mut harness), ["hello"]);
    }
}

#[test]
fn whatever_changes_the_agent_lets_messages_retries_and_summaries_wait() {
    for command in ["/agent codex", "/mode codex", "/config agent codex"] {
        let mut harness = chat();
        harness.submit(command);
        harness.submit("hello");
        harness.press(KeyCode::F(5), NONE);
        assert_eq!(notice(&harness), "another agent is being prepared");
        assert!(screen_text(&harness).contains("not saved yet; sent in a moment"));
        harness.submit("/compact");
        let begins_exchange = |request: &Request| {
            matches!(request, Request::Send { .. } | Request::Retry { .. } | Request::Compact(_))
        };
        assert!(!harness.requests().any(begins_exchange), "{command}");
        let agent = Some(AgentDescription::new("codex", ""));
        let applied = ConfigApplied { key: "agent".into(), settings: None, agent, note: String::new() };
        harness.send(Msg::ConfigSet(Ok(applied)));
        assert_eq!(take_sent(&mut harness), ["hello"], "{command}");
    }
}

#[test]
fn an_adapter_is_installed_after_its_command_was_shown_and_confirmed() {
    let mut harness = empty();
    harness.send(Msg::Agents(crate::gallery::agents(true)));
    harness.submit("hello");
    harness.press(KeyCode::Down, NONE);
    harness.press(KeyCode::Enter, NONE);
    let install = Request::InstallAgent { agent: "claude".into() };
    assert!(screen_text(&harness).contains("$ npm install -g @agentclientprotocol/claude-agent-acp"));
    assert!(!harness.effects.contains(&install.clone().into()), "nothing runs without a yes");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&install.into()));
    harness.send(Msg::Screen(ScreenMsg::InstallOutput("added 120 packages".into())));
    assert!(screen_text(&harness).contains("added 120 packages"));
    let failed = Err(ErrorReport::new(ErrorKind::Unavailable, "npm failed"));
    harness.send(Msg::Screen(ScreenMsg::AgentInstalled { agent: "claude".into(), result: failed }));
    let screen = screen_text(&harness);
    assert!(screen.contains("npm failed") && screen.contains("added 120 packages"), "{screen}");
    // "try again" runs the command again.
    harness.effects.clear();
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&Request::InstallAgent { agent: "claude".into() }.into()));
    assert!(screen_text(&harness).contains("running; this may take some minutes"));
    harness.send(Msg::Screen(ScreenMsg::AgentInstalled { agent: "claude".into(), result: Ok(()) }));
    let set = Request::SetConfig { key: "agent".into(), value: "claude".into() };
    assert!(harness.effects.contains(&set.into()), "{:?}", harness.effects);
}

#[test]
fn a_session_that_is_opened_is_continued_by_its_agent_and_messages_wait_for_it() {
    let mut harness = chat();
    let mut opened = opened_elsewhere();
    opened.agent = Some("claude".into());
    harness.send(Msg::Opened(Ok(Box::new(opened.clone()))));
    let use_claude = Request::UseAgent { agent: Some("claude".into()) };
    assert!(harness.effects.contains(&use_claude.into()));
    harness.submit("hello");
    assert!(!harness.requests().any(|request| matches!(request, Request::Send { .. })), "it waits");
    let used = |agent: &str, for_session| {
        let agent = Some(AgentDescription::new(agent, ""));
        let applied = ConfigApplied { key: "agent".into(), settings: None, agent, note: String::new() };
        Msg::AgentUsed { for_session, result: Ok(applied) }
    };
    harness.send(used("claude", true));
    assert!(
        harness.requests().any(|request| matches!(request, Request::Send { text, .. } if text == "hello"))
    );
    harness.model.chat.exchange = None;
    harness.effects.clear();
    // Another session of the same agent needs no change, and one without an agent has the configured one.
    opened.conversation =
        Conversation::at(SessionId::generate(), Position { branch: opened.branch.id, head: 7 });
    harness.send(Msg::Opened(Ok(Box::new(opened.clone()))));
    assert!(!harness.requests().any(|request| matches!(request, Request::UseAgent { .. })));
    opened.agent = None;
    opened.conversation =
        Conversation::at(SessionId::generate(), Position { branch: opened.branch.id, head: 7 });
    harness.send(Msg::Opened(Ok(Box::new(opened))));
    let changes = harness.requests().filter(|request| matches!(request, Request::UseAgent { agent: None }));
    assert_eq!(changes.count(), 1);
    // If the agent cannot be used, the message is back in the input.
    harness.submit("again");
    let failed = Err(ErrorReport::new(ErrorKind::NotFound, "it is not installed"));
    harness.send(Msg::AgentUsed { for_session: false, result: failed });
    assert_eq!(harness.model.chat.input.text(), "again");
}

#[test]
fn what_was_not_sent_contains_what_the_user_wrote_and_nothing_else() {
    let mut harness = chat();
    assert_eq!(harness.model.chat.unsent_text(), "");
    harness.submit("being saved");
    harness.submit("queued");
    harness.send(Msg::Paste("a draft".into()));
    assert_eq!(harness.model.chat.unsent_text(), "being saved\n\nqueued\n\na draft");
    let user = message(9, Role::User, "being saved");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(user))));
    assert_eq!(harness.model.chat.unsent_text(), "queued\n\na draft");
    // An earlier message in the input takes the place of the draft.
    let mut harness = chat();
    harness.send(Msg::History(vec!["an earlier message".into()]));
    harness.send(Msg::Paste("a draft".into()));
    harness.press(KeyCode::Up, NONE);
    assert_eq!(harness.model.chat.input.text(), "an earlier message");
    assert_eq!(harness.model.chat.unsent_text(), "a draft");
    // A prompt that a rewind offers is in the store.
    let mut harness = chat();
    harness.model.chat.input.offer("the old prompt");
    assert_eq!(harness.model.chat.unsent_text(), "");
}

#[test]
fn a_restored_draft_is_kept_until_a_message_is_sent_and_stays_with_its_session() {
    let mut harness = chat();
    let session = harness.model.chat.conversation.session();
    let read = |session, text: &str| Msg::DraftRead { session, result: Ok(Some(text.to_owned())) };
    harness.send(Msg::Paste("written since".into()));
    harness.send(read(Some(SessionId::generate()), "of another session"));
    assert_eq!(harness.model.chat.input.text(), "written since");
    harness.send(read(session, "kept"));
    assert_eq!(harness.model.chat.input.text(), "kept\n\nwritten since");
    assert!(notice(&harness).contains("not sent"));
    harness.press(KeyCode::Enter, NONE);
    harness.submit("queued");
    harness.effects.clear();
    let sent = |seq| Msg::Exchange(Update::Sent(Arc::new(message(seq, Role::User, "kept"))));
    harness.send(sent(9));
    let rest = Request::WriteDraft { session, text: "queued".into() };
    assert!(harness.requests().any(|request| *request == rest), "what is not sent yet stays kept");
    end_exchange(&mut harness, Ok(exchange(None)));
    harness.effects.clear();
    harness.send(sent(11));
    let forget = Request::WriteDraft { session, text: String::new() };
    assert!(harness.requests().any(|request| *request == forget));
    // A new conversation takes the text along.
    let mut harness = chat();
    harness.send(read(session, "kept"));
    let mut opened = opened_elsewhere();
    opened.summary.session.name = "elsewhere".into();
    harness.effects.clear();
    let other = opened.conversation.session();
    harness.send(Msg::Opened(Ok(Box::new(opened))));
    assert!(harness.requests().any(|request| *request == Request::ReadDraft(other)));
    assert_eq!(harness.model.chat.input.text(), "kept");
    harness.send(read(other, "of the other"));
    assert_eq!(harness.model.chat.input.text(), "of the other\n\nkept");
    let moved = Request::WriteDraft { session, text: String::new() };
    assert!(harness.requests().any(|request| *request == moved));
}

/// An event that happened this many seconds before now.
fn event_before(harness: &Harness, seconds: i64, payload: EventPayload) -> Msg {
    let at = Timestamp::from_micros(harness.model.render.now.as_micros() - seconds * 1_000_000).unwrap();
    Msg::Exchange(Update::Event(Arc::new(Event { run: RunId::generate(), number: 1, at, payload })))
}

#[test]
fn inspect_says_what_happens_in_a_run_in_progress_and_what_happened_in_a_complete_one() {
    let mut harness = chat();
    harness.submit("why?");
    harness.send(Msg::Exchange(Update::Sent(Arc::new(message(9, Role::User, "why?")))));
    let (agent, model) = ("backend-worker-1".to_owned(), None);
    let started = EventPayload::AgentStarted {
        agent: agent.clone(),
        role: "worker".into(),
        triad: Some("backend".into()),
        preset: None,
        model: model.clone(),
    };
    let used = |phase: &str| EventPayload::UsageRecorded {
        agent: agent.clone(),
        phase: Some(phase.into()),
        model: model.clone(),
        usage: Usage::new(5, 7),
    };
    for payload in [
        EventPayload::RunStarted { agent: "triads".into(), answers: None },
        EventPayload::PhaseStarted { phase: "planning".into() },
        started,
        used("planning"),
        EventPayload::PhaseStarted { phase: "execution".into() },
        used("execution"),
    ] {
        let event = event_before(&harness, 5, payload);
        harness.send(event);
    }
    harness.press(KeyCode::F(3), NONE);
    assert!(screen_text(&harness).contains("working for 5"), "{}", screen_text(&harness));
    harness.press(KeyCode::Char('2'), NONE);
    assert!(screen_text(&harness).contains("no section is contested so far"), "{}", screen_text(&harness));
    harness.press(KeyCode::Char('3'), NONE);
    let tokens = screen_text(&harness);
    let place = |phase: &str| tokens.find(phase).unwrap_or_else(|| panic!("{phase}: {tokens}"));
    assert!(place("planning") < place("execution"), "phases are in the order of the run: {tokens}");
    for payload in [
        EventPayload::AgentEnded { agent, status: hfs_core::AgentStatus::Complete, duration_ms: 3_000 },
        EventPayload::RunEnded { duration_ms: 4_000, ending: hfs_core::RunEnding::Completed },
    ] {
        let event = event_before(&harness, 2, payload);
        harness.send(event);
    }
    harness.press(KeyCode::Char('2'), NONE);
    assert!(screen_text(&harness).contains("no section was contested"), "{}", screen_text(&harness));
    harness.press(KeyCode::Char('1'), NONE);
    assert!(screen_text(&harness).contains("done after 3"), "{}", screen_text(&harness));
}

#[test]
fn a_session_without_checkpoints_says_how_to_rewind_to_a_message() {
    let mut harness = chat();
    let session = harness.model.chat.conversation.session().unwrap();
    harness.press(KeyCode::Char('t'), CONTROL);
    assert!(screen_text(&harness).contains("loading"));
    harness.send(Msg::Screen(ScreenMsg::Checkpoints { session, result: Ok(Vec::new()) }));
    let screen = screen_text(&harness);
    assert!(screen.contains("no checkpoints yet") && screen.contains("Alt+↑"), "{screen}");
}

#[test]
fn a_list_that_is_cut_shows_that_there_is_more() {
    let marks = |harness: &Harness| screen_text(harness).matches('┃').count();
    let mut harness = chat();
    harness.model.size = (80, 24);
    let before = marks(&harness);
    harness.send(Msg::Paste("/".into()));
    let screen = screen_text(&harness);
    assert!(screen.contains(&format!("1 of {}", COMMANDS.len())), "{screen}");
    assert!(marks(&harness) > before, "{screen}");
    harness.press(KeyCode::Down, NONE);
    assert!(screen_text(&harness).contains("2 of "), "{}", screen_text(&harness));
    harness.send(Msg::Paste("com".into()));
    let whole = screen_text(&harness);
    assert!(whole.contains("/compact") && !whole.contains(" of "), "{whole}");
    // Paths, models, and the list of commands.
    let mut harness = empty();
    harness.model.size = (80, 24);
    harness.send(Msg::Paste("@".into()));
    let paths: Vec<String> = (0..30).map(|index| format!("file-{index}")).collect();
    harness.send(Msg::PathsCompleted(found_paths("", paths.clone(), 0)));
    assert!(screen_text(&harness).contains("1 of 30 ─"), "{}", screen_text(&harness));
    harness.send(Msg::PathsCompleted(found_paths("", paths, 12)));
    assert!(screen_text(&harness).contains("1 of 30 · 12 more: type on"), "{}", screen_text(&harness));
    for name in ["palette", "history", "models", "help"] {
        let mut harness = match name {
            "models" => {
                let mut harness = chat();
                harness.submit("/model");
                let models = (0..50).map(|index| format!("model-{index}")).collect();
                harness.send(Msg::Screen(ScreenMsg::Models(Ok(models))));
                harness
            }
            "history" => {
                let mut harness = chat();
                harness.send(Msg::History((0..50).map(|index| format!("message {index}")).collect()));
                harness.press(KeyCode::Char('r'), CONTROL);
                harness
            }
            "palette" => {
                let mut harness = chat();
                harness.press(KeyCode::Char('p'), CONTROL);
                harness
            }
            name => set_up(name),
        };
        harness.model.size = (80, 24);
        assert!(marks(&harness) > 0, "{name}: {}", screen_text(&harness));
    }
}

#[test]
fn a_notice_does_not_hide_the_reply_in_progress() {
    let mut harness = set_up("chat-streaming");
    for width in [100, 80] {
        harness.model.size = (width, 24);
        harness.model.notify(Tone::Dim, "stopped; the part of the reply that arrived is saved");
        let screen = screen_text(&harness);
        assert!(screen.contains("that arrived is saved") && screen.contains("Esc stops it"), "{screen}");
    }
    harness.press(KeyCode::Esc, NONE);
    assert!(screen_text(&harness).contains("stopping ..."), "{}", screen_text(&harness));
    // A long notice is worth more than the progress.
    harness.model.size = (50, 24);
    assert!(screen_text(&harness).contains("stopped; the part"), "{}", screen_text(&harness));
}

#[test]
fn only_a_fold_that_a_key_unfolds_has_a_hint() {
    let mut harness = chat();
    harness.send(Msg::Paste("one line\n".repeat(60)));
    assert!(screen_text(&harness).contains("Tab unfold"), "{}", screen_text(&harness));
    harness.press(KeyCode::Char('x'), NONE);
    assert!(!screen_text(&harness).contains("Tab unfold"), "the fold is not before the cursor");
    let mut harness = chat();
    harness.send(Msg::Paste("one line\n".repeat(6_000)));
    let screen = screen_text(&harness);
    assert!(screen.contains("6000 lines") && !screen.contains("Tab unfold"), "{screen}");
}

#[test]
fn agents_that_can_be_chosen_come_first_and_the_current_one_is_selected() {
    let mut harness = chat();
    harness.submit("/agent");
    harness.model.agent.name = "recall".into();
    harness.send(Msg::Agents(crate::gallery::agents(false)));
    let screen = screen_text(&harness);
    let place = |text: &str| screen.find(text).unwrap();
    assert!(place("searches your saved sessions") < place("Claude Code"), "{screen}");
    assert!(place("Claude Code") < place("Gemini CLI"), "{screen}");
    harness.effects.clear();
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&Request::UseAgent { agent: Some("recall".into()) }.into()));
    // The list may arrive again while the user chooses.
    harness.submit("/agent");
    harness.press(KeyCode::Home, NONE);
    harness.send(Msg::Agents(crate::gallery::agents(false)));
    harness.effects.clear();
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&Request::UseAgent { agent: Some("codex".into()) }.into()));
}

#[test]
fn the_model_that_answers_is_marked_and_selected() {
    let mut harness = chat();
    harness.model.agent.model = Some("openai/qwen/large".into());
    harness.submit("/model");
    let models = ["small", "qwen/large", "large"].map(str::to_owned).to_vec();
    harness.send(Msg::Screen(ScreenMsg::Models(Ok(models))));
    let screen = screen_text(&harness);
    assert!(screen.contains("● qwen/large") && screen.matches('●').count() == 1, "{screen}");
    harness.press(KeyCode::Enter, NONE);
    assert!(harness.effects.contains(&Request::UseModel { model: Some("qwen/large".into()) }.into()));
}

#[test]
fn the_path_of_an_export_is_shown_whole() {
    let mut harness = set_up("export");
    harness.model.size = (50, 24);
    let path = format!("/home/alex/{}/the-end.json", "a-long-name/".repeat(8));
    harness.press(KeyCode::Char('p'), NONE);
    for _ in 0..200 {
        harness.press(KeyCode::Backspace, NONE);
    }
    harness.type_text(&path);
    harness.press(KeyCode::Enter, NONE);
    let screen = screen_text(&harness);
    let shown: String = screen.split_whitespace().collect();
    assert!(shown.contains(&path), "{screen}");
}

#[test]
fn an_import_that_has_found_nothing_offers_only_keys_that_do_something() {
    let mut harness = empty();
    harness.submit("/import");
    harness.send(Msg::Screen(ScreenMsg::Transcripts { welcome: false, found: Vec::new() }));
    let screen = screen_text(&harness);
    assert!(screen.contains("p import from a path"), "{screen}");
    assert!(!screen.contains("Enter import") && !screen.contains("Space"), "{screen}");
}

#[test]
fn the_tokens_of_a_run_that_has_just_begun_are_not_there_yet() {
    let mut harness = chat();
    harness.submit("go");
    harness.send(event(EventPayload::RunStarted { agent: "assistant".into(), answers: None }));
    harness.press(KeyCode::F(3), NONE);
    harness.press(KeyCode::Char('3'), NONE);
    let screen = screen_text(&harness);
    assert!(screen.contains("no request has been answered yet"), "{screen}");
    assert!(!screen.contains("By phase") && !screen.contains("By agent"), "{screen}");
}

#[test]
fn postponing_the_approval_of_a_plugin_asks_for_the_next_one_at_once() {
    let mut harness = chat();
    let mut view = PluginView::default();
    for plugin in ["lamp", "meter"] {
        view.pending.push(crate::ports::ApprovalRequest {
            plugin: plugin.into(),
            version: "1.0.0".into(),
            about: String::new(),
            permissions: Vec::new(),
            new_permissions: Vec::new(),
        });
    }
    harness.send(Msg::Plugins(Box::new(view)));
    assert!(screen_text(&harness).contains("lamp 1.0.0 wants to run"), "{}", screen_text(&harness));
    harness.press(KeyCode::Esc, NONE);
    assert!(screen_text(&harness).contains("meter 1.0.0 wants to run"), "{}", screen_text(&harness));
    harness.press(KeyCode::Esc, NONE);
    assert!(harness.model.modals.is_empty());
}

#[test]
fn an_empty_list_of_sessions_shows_no_messages() {
    let mut harness = set_up("sessions");
    let request_id = |harness: &Harness| {
        let requests: Vec<_> = harness.requests().cloned().collect();
        let id = requests.iter().rev().find_map(|request| match request {
            Request::ListSessions { request_id, .. } => Some(*request_id),
            _ => None,
        });
        id.unwrap()
    };
    assert!(screen_text(&harness).contains("You"), "{}", screen_text(&harness));
    harness.effects.clear();
    harness.press(KeyCode::Tab, NONE);
    let result = Ok(Page { items: Vec::new(), next: None, unreadable: 0 });
    let request_id = request_id(&harness);
    harness.send(Msg::Screen(ScreenMsg::Sessions { request_id, result }));
    let screen = screen_text(&harness);
    let preview = screen.split("newest messages").nth(1).unwrap();
    assert!(!preview.contains("You"), "{screen}");
}

#[test]
fn figures_are_separated_within_a_line_only() {
    let mut harness = set_up("stats-models");
    for width in [40, 60, 80, 100, 120, 160] {
        harness.model.size = (width, 40);
        let (frame, _) = harness.draw();
        let rows = frame.content.chunks(usize::from(width));
        let rows: Vec<String> =
            rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect();
        let figures: Vec<&str> = rows.iter().filter_map(|row| row.split('│').nth(1)).map(str::trim).collect();
        assert!(figures.iter().any(|line| line.contains("read from cache")), "{width}: {rows:#?}");
        for line in figures {
            assert!(!line.starts_with('·') && !line.ends_with('·'), "{width}: {line:?}");
        }
    }
}

#[test]
fn the_whole_reason_is_shown_while_a_reply_cannot_be_saved() {
    let mut harness = set_up("chat-not-saved");
    harness.model.size = (60, 24);
    let screen: Vec<String> = screen_text(&harness).split_whitespace().map(str::to_owned).collect();
    let screen = screen.join(" ");
    assert!(screen.contains("not saved: cannot write hfs.db: no space left on device"), "{screen}");
    assert!(screen.contains("hfs tries again"), "{screen}");
}

#[test]
fn a_lasting_answer_to_a_long_command_is_not_cut() {
    let mut harness = set_up("tool-running");
    harness.model.size = (80, 24);
    let command =
        "cargo test --workspace --all-features -- --nocapture && git commit -am 'Send it'".to_owned();
    let mut request = crate::gallery::command_permission();
    request.always = Some(format!("execute {command}"));
    request.command = Some(command);
    harness.send(Msg::PermissionAsked { id: 1, request: Box::new(request) });
    let screen = screen_text(&harness);
    assert!(screen.contains("Always allow here: execute exactly this command"), "{screen}");
    // A rule that covers more than the command is shown as it is.
    let mut request = crate::gallery::command_permission();
    request.always = Some("execute cargo test --workspace --all-features *".into());
    request.command = Some("cargo test --workspace --all-features -- --nocapture".into());
    harness.send(Msg::PermissionAsked { id: 2, request: Box::new(request) });
    assert!(screen_text(&harness).contains("execute cargo test --workspace --all-features *"));
}

/// The request for an export after this line was submitted; `None` if the screen waits for a choice, or does not open.
fn export_request(harness: &mut Harness, line: &str) -> Option<crate::ports::ExportRequest> {
    harness.effects.clear();
    harness.submit(line);
    let target = harness.effects.iter().find_map(|effect| match effect {
        Effect::Request(Request::PrepareExport { target, .. }) => Some(target.clone()),
        _ => None,
    });
    harness.export_prepared(&target?);
    harness.effects.iter().rev().find_map(|effect| match effect {
        Effect::Request(Request::Export(request)) => Some(request.clone()),
        _ => None,
    })
}

#[test]
fn an_export_goes_to_the_path_after_the_command_in_the_format_of_its_extension() {
    for (line, format, path) in [
        ("/export notes.md", "markdown", "notes.md"),
        ("/export ~/my notes/a b.html", "html", "~/my notes/a b.html"),
        ("/export \"my notes.md\"", "markdown", "my notes.md"),
        ("/export my\\ notes.md", "markdown", "my notes.md"),
        ("/export markdown ~/plain", "markdown", "~/plain"),
        ("/export HTML a.txt", "html", "a.txt"),
        ("/export ~/exports", "json", "~/exports"),
        ("/export ./backup.d/", "json", "./backup.d/"),
    ] {
        let request = export_request(&mut chat(), line).unwrap_or_else(|| panic!("{line} exports nothing"));
        assert_eq!((request.format.as_str(), request.path.to_str()), (format, Some(path)), "{line}");
        assert!(!request.replaces, "{line}");
    }
}

#[test]
fn a_format_after_export_is_selected_and_one_that_does_not_exist_is_named() {
    let mut harness = chat();
    assert_eq!(export_request(&mut harness, "/export html"), None);
    assert!(format!("{:?}", harness.model.screen).contains("ListSelection { row: 2 }"));
    for (line, explanation) in [("/export pdf", "no format \"pdf\""), ("/export a.pdf", "the extension .pdf")]
    {
        let mut harness = chat();
        assert_eq!(export_request(&mut harness, line), None);
        assert!(harness.model.screen.is_none(), "{line}");
        assert!(notice(&harness).contains(explanation), "{line}: {}", notice(&harness));
    }
}

#[test]
fn a_command_that_takes_no_arguments_says_so_and_does_nothing() {
    for spec in COMMANDS.iter().filter(|spec| spec.arguments.is_empty()) {
        let mut harness = chat();
        let before = (harness.model.chat.conversation.clone(), harness.model.modals.len());
        harness.submit(&format!("/{} this", spec.name()));
        assert!(notice(&harness).contains("takes nothing after it"), "{}: {}", spec.name(), notice(&harness));
        assert!(harness.model.screen.is_none(), "{}", spec.name());
        let after = (harness.model.chat.conversation.clone(), harness.model.modals.len());
        assert_eq!(before, after, "{}", spec.name());
    }
    let mut harness = chat();
    harness.submit("/sessions retry");
    assert!(screen_text(&harness).contains("retry"));
}

#[test]
fn the_gauge_without_a_limit_has_a_unit() {
    let mut harness = chat();
    let gauge = |tokens| ContextGauge { tokens, is_estimate: true, limit: None, is_own_report: false };
    harness.model.chat.context = Some(gauge(12));
    assert!(screen_text(&harness).contains("context ~12 tokens"));
    harness.model.chat.context = Some(gauge(1));
    assert!(screen_text(&harness).contains("context ~1 token "));
}

#[test]
fn the_sidebar_names_every_owner_of_a_section() {
    let mut harness = set_up("negotiating");
    harness.model.size = (140, 45);
    let owners = ["correctness-reviewers", "performance-engineers", "documentation-writers"];
    for section in &mut harness.model.chat.run.negotiation.sections {
        section.owners = owners.map(str::to_owned).to_vec();
    }
    let screen = screen_text(&harness);
    for owner in owners {
        assert!(screen.matches(owner).count() > 1, "{owner}:\n{screen}");
    }
}
