mod sending;

use std::sync::Arc;

use hfs_core::{
    AgentError, BranchId, DeltaKind, ErrorKind, MessageDraft, MessageStatus, Position, Role, Run, RunId,
    RunSnapshot, StoreError,
};
use hfs_core::{Message, Part, SessionId, Timestamp};
use hfs_engine::{Conversation, Exchange, SendError, Update};

use super::*;
use crate::gallery::{Stage, scenes};
use crate::model::SaveState;
use crate::parts::{AppSettings, Failure, KeyMode};

fn chat() -> Stage {
    scenes().into_iter().find(|scene| scene.name == "chat").unwrap().stage(AppSettings::default(), (100, 30))
}

fn empty() -> Stage {
    Stage::new(AppSettings::default(), (100, 30))
}

fn with_keys(keys: KeyMode) -> Stage {
    Stage::new(AppSettings { keys, ..AppSettings::default() }, (100, 30))
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CONTROL: KeyModifiers = KeyModifiers::CONTROL;

fn said(seq: u64, role: Role, text: &str) -> Message {
    let content = MessageDraft::new(role, vec![Part::text(text)], Timestamp::UNIX_EPOCH);
    Message { branch: BranchId::generate(), seq, content }
}

fn exchange(failure: Option<AgentError>) -> Exchange {
    let mut reply = said(9, Role::Assistant, "so far");
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
    Exchange { user: said(8, Role::User, "hello"), reply, run, failure }
}

fn end(stage: &mut Stage, outcome: Result<Exchange, SendError>) {
    let conversation = stage.model.chat.conversation.clone();
    stage.tell(Msg::Ended { conversation, outcome: Box::new(outcome) });
}

fn notice(stage: &Stage) -> &str {
    stage.model.notice.as_ref().map_or("", |notice| notice.text.as_str())
}

#[test]
fn a_deleted_session_comes_back_with_undo_and_is_open_again() {
    let mut stage = chat();
    let session = stage.model.chat.conversation.session().unwrap();
    stage.say("/delete");
    stage.press(KeyCode::Enter, NONE);
    assert!(stage.effects.contains(&Effect::Change(Change::Trash(session))));
    stage.tell(Msg::Changed(Box::new(Ok(crate::message::Changed::Trashed { session }))));
    assert_eq!(stage.model.chat.conversation.session(), None);
    assert!(notice(&stage).contains("/undo"));
    stage.say("/undo");
    assert!(stage.effects.contains(&Effect::Change(Change::Restore(session))));
    stage.effects.clear();
    stage.tell(Msg::Changed(Box::new(Ok(crate::message::Changed::Restored { session }))));
    assert!(stage.effects.contains(&Effect::Open { session, branch: None, at: None }));
}

#[test]
fn a_setting_that_has_nothing_to_do_with_folds_leaves_them() {
    let mut stage = chat();
    stage.press(KeyCode::Char('o'), CONTROL);
    let applied = |key: &str| crate::message::ConfigApplied {
        key: key.into(),
        settings: Some(AppSettings::default()),
        agent: None,
        note: String::new(),
    };
    stage.tell(Msg::ConfigSet(Ok(applied("theme"))));
    assert_eq!(stage.model.look.settings.output, crate::parts::OutputMode::Verbose);
    stage.tell(Msg::ConfigSet(Ok(applied("output_mode"))));
    assert_eq!(stage.model.look.settings.output, crate::parts::OutputMode::Compact);
}

fn letters(stage: &Stage) -> String {
    let (picture, _) = stage.picture();
    picture.content.iter().map(ratatui::buffer::Cell::symbol).collect()
}

#[test]
fn one_tool_opens_and_closes_while_the_others_stay_as_they_are() {
    let mut stage = chat();
    stage.tell(Msg::Resized(100, 60));
    // The message with a thought and a call.
    for _ in 0..6 {
        stage.press(KeyCode::Up, KeyModifiers::ALT);
    }
    assert_eq!(stage.model.chat.transcript.folds(), 2);
    stage.press(KeyCode::Tab, NONE);
    stage.press(KeyCode::Tab, NONE);
    stage.press(KeyCode::Enter, NONE);
    let open = letters(&stage);
    assert!(open.contains("\"pattern\"") && !open.contains("Three times three"), "{open}");
    stage.press(KeyCode::Enter, NONE);
    assert!(!letters(&stage).contains("\"pattern\""));
    // Behind the last one are all of them again.
    stage.press(KeyCode::Tab, NONE);
    stage.press(KeyCode::Enter, NONE);
    let open = letters(&stage);
    assert!(open.contains("\"pattern\"") && open.contains("Three times three"), "{open}");
}

#[test]
fn a_click_on_a_handle_opens_what_is_folded_there() {
    let mut stage = chat();
    stage.tell(Msg::Resized(100, 60));
    let (picture, _) = stage.picture();
    let row = |y: u16| -> String { (0..100).map(|x| picture[(x, y)].symbol()).collect() };
    let y = (0..60).find(|y| row(*y).contains("▸ grep")).unwrap();
    for kind in [MouseEventKind::Down(MouseButton::Left), MouseEventKind::Up(MouseButton::Left)] {
        stage.tell(Msg::Mouse(MouseEvent { kind, column: 8, row: y, modifiers: NONE }));
    }
    assert!(letters(&stage).contains("\"pattern\""));
}

#[test]
fn ctrl_c_leaves_only_when_pressed_twice_in_a_row() {
    let mut stage = chat();
    stage.press(KeyCode::Char('c'), CONTROL);
    stage.press(KeyCode::Char('x'), NONE);
    stage.press(KeyCode::Char('c'), CONTROL);
    assert!(!stage.model.leaving);
    stage.press(KeyCode::Char('c'), CONTROL);
    assert!(stage.model.leaving && stage.effects.contains(&Effect::Quit));
}

#[test]
fn a_first_ctrl_c_is_forgotten_after_a_while() {
    let mut stage = chat();
    stage.press(KeyCode::Char('c'), CONTROL);
    let (_, number) = stage.model.armed.unwrap();
    stage.tell(Msg::Timer(Timer::Disarm(number)));
    stage.press(KeyCode::Char('c'), CONTROL);
    assert!(!stage.model.leaving);
}

#[test]
fn esc_twice_shows_the_checkpoints_but_never_loses_what_was_written() {
    let mut stage = chat();
    stage.press(KeyCode::Esc, NONE);
    stage.press(KeyCode::Esc, NONE);
    assert!(matches!(stage.model.screen, Screen::Timeline(_)));
    let mut stage = chat();
    stage.type_text("draft");
    stage.press(KeyCode::Esc, NONE);
    assert_eq!(stage.model.chat.input.text(), "draft");
    stage.press(KeyCode::Esc, NONE);
    assert!(matches!(stage.model.screen, Screen::Chat) && stage.model.chat.input.is_empty());
    stage.press(KeyCode::Up, NONE);
    assert_eq!(stage.model.chat.input.text(), "draft");
}

#[test]
fn up_and_down_walk_through_what_was_said_and_back_to_the_draft() {
    let mut stage = empty();
    stage.tell(Msg::History(vec!["newer".into(), "older".into()]));
    stage.type_text("draft");
    for expected in ["newer", "older", "older"] {
        stage.press(KeyCode::Up, NONE);
        assert_eq!(stage.model.chat.input.text(), expected);
    }
    for expected in ["newer", "draft", "draft"] {
        stage.press(KeyCode::Down, NONE);
        assert_eq!(stage.model.chat.input.text(), expected);
    }
}

#[test]
fn every_command_does_something_in_every_state() {
    for spec in crate::command::COMMANDS {
        for mut stage in [empty(), chat()] {
            stage.effects.clear();
            let sidebar = stage.model.sidebar;
            stage.say(&format!("/{}", spec.name()));
            let moved = !matches!(stage.model.screen, Screen::Chat) || !stage.model.modals.is_empty();
            let told = stage.model.notice.is_some() || sidebar != stage.model.sidebar;
            assert!(moved || told || !stage.effects.is_empty(), "/{} did nothing", spec.name());
        }
    }
}

#[test]
fn every_key_of_a_command_runs_it() {
    for (code, modifiers, expected) in [
        (KeyCode::F(1), NONE, "Help"),
        (KeyCode::F(3), NONE, "Inspect"),
        (KeyCode::F(4), NONE, "Branches"),
        (KeyCode::Char('s'), CONTROL, "Sessions"),
        (KeyCode::Char('t'), CONTROL, "Timeline"),
        (KeyCode::Char('f'), CONTROL, "Search"),
    ] {
        let mut stage = chat();
        stage.press(code, modifiers);
        assert!(format!("{:?}", stage.model.screen).starts_with(expected), "{code:?}");
        stage.press(KeyCode::Esc, NONE);
        assert!(matches!(stage.model.screen, Screen::Chat), "Esc leads back from {expected}");
    }
}

#[test]
fn the_palette_runs_what_is_selected() {
    let mut stage = chat();
    stage.press(KeyCode::Char('p'), CONTROL);
    stage.type_text("inspect");
    stage.press(KeyCode::Enter, NONE);
    assert!(matches!(stage.model.screen, Screen::Inspect(_)));
    let mut stage = with_keys(KeyMode::Emacs);
    stage.press(KeyCode::Char('x'), KeyModifiers::ALT);
    assert!(matches!(stage.model.modals.last(), Some(Modal::Palette { .. })));
}

#[test]
fn vim_normal_mode_does_not_type() {
    let mut stage = with_keys(KeyMode::Vim);
    stage.type_text("abc");
    stage.press(KeyCode::Esc, NONE);
    stage.type_text("xq");
    assert_eq!(stage.model.chat.input.text(), "ab");
    stage.press(KeyCode::Enter, NONE);
    assert!(stage.effects.iter().any(|effect| matches!(effect, Effect::Send { text, .. } if text == "ab")));
}

#[test]
fn an_approval_that_appears_while_one_types_is_not_given_by_accident() {
    let mut stage = scenes()
        .into_iter()
        .find(|scene| scene.name == "approval")
        .unwrap()
        .stage(AppSettings::default(), (100, 30));
    stage.effects.clear();
    stage.type_text("a yes y approve");
    assert!(matches!(stage.model.modals.last(), Some(Modal::Approval { .. })), "it owns the focus");
    assert!(stage.model.chat.input.is_empty());
    stage.press(KeyCode::Enter, NONE);
    assert!(stage.model.modals.is_empty());
    assert!(!stage.effects.iter().any(|effect| matches!(effect, Effect::DecidePlugin { .. })));
}

#[test]
fn an_approval_is_given_by_choosing_it() {
    let mut stage = scenes()
        .into_iter()
        .find(|scene| scene.name == "approval")
        .unwrap()
        .stage(AppSettings::default(), (100, 30));
    stage.press(KeyCode::Right, NONE);
    stage.press(KeyCode::Right, NONE);
    stage.press(KeyCode::Enter, NONE);
    let approve = crate::parts::PluginDecision::Approve;
    assert!(stage.effects.contains(&Effect::DecidePlugin { plugin: "word-count".into(), decision: approve }));
    // Until that is done nobody is asked again, whatever else happens to plugins.
    let view = stage.model.plugins.clone();
    stage.tell(Msg::Plugins(Box::new(view.clone())));
    assert!(stage.model.modals.is_empty());
    stage.tell(Msg::PluginDecided(Ok(())));
    stage.tell(Msg::Plugins(Box::new(view)));
    assert!(matches!(stage.model.modals.last(), Some(Modal::Approval { .. })));
}

#[test]
fn a_question_that_was_answered_elsewhere_goes_away() {
    let mut stage = scenes()
        .into_iter()
        .find(|scene| scene.name == "approval")
        .unwrap()
        .stage(AppSettings::default(), (100, 30));
    let view = stage.model.plugins.clone();
    stage.tell(Msg::Plugins(Box::new(view.clone())));
    assert!(matches!(stage.model.modals.last(), Some(Modal::Approval { .. })));
    stage.tell(Msg::Plugins(Box::new(crate::parts::PluginView { pending: Vec::new(), ..view })));
    assert!(stage.model.modals.is_empty());
}

#[test]
fn only_the_newest_question_is_answered_by_a_late_answer() {
    let mut stage = chat();
    stage.say("/search one");
    let Some(Effect::Search { generation, .. }) = stage.effects.last().cloned() else {
        panic!("{:?}", stage.effects)
    };
    stage.type_text("x");
    let late = hfs_core::SearchResults { hits: Vec::new(), total: 99 };
    stage.tell(Msg::Found { generation, result: Ok(late) });
    assert!(!format!("{:?}", stage.picture().0).contains("99"));
}

#[test]
fn deleting_the_open_session_begins_a_new_conversation() {
    let mut stage = chat();
    let session = stage.model.chat.conversation.session().unwrap();
    stage.say("/delete");
    stage.effects.clear();
    stage.press(KeyCode::Enter, NONE);
    assert_eq!(stage.effects, [Effect::Change(Change::Trash(session))]);
    stage.tell(Msg::Changed(Box::new(Ok(crate::message::Changed::Trashed { session }))));
    assert_eq!(stage.model.chat.conversation.session(), None);
}

#[test]
fn a_failure_is_told_with_its_hint() {
    let mut stage = empty();
    let failure =
        Failure { kind: ErrorKind::NotFound, message: "no session".into(), hint: Some("try another".into()) };
    stage.tell(Msg::Opened(Err(failure)));
    assert_eq!(notice(&stage), "no session (try another)");
}

#[test]
fn a_drag_marks_and_copies_and_a_click_does_not() {
    let mut stage = chat();
    let mouse = |kind, column| MouseEvent { kind, column, row: 3, modifiers: NONE };
    stage.tell(Msg::Mouse(mouse(MouseEventKind::Down(MouseButton::Left), 3)));
    stage.tell(Msg::Mouse(mouse(MouseEventKind::Up(MouseButton::Left), 3)));
    assert!(!stage.effects.contains(&Effect::CopyMarked));
    stage.tell(Msg::Mouse(mouse(MouseEventKind::Down(MouseButton::Left), 3)));
    stage.tell(Msg::Mouse(mouse(MouseEventKind::Drag(MouseButton::Left), 9)));
    stage.tell(Msg::Mouse(mouse(MouseEventKind::Up(MouseButton::Left), 9)));
    assert!(stage.effects.contains(&Effect::CopyMarked));
}

#[test]
fn an_idle_app_waits_for_nothing_but_what_ends_by_itself() {
    let mut stage = chat();
    stage.effects.clear();
    for _ in 0..10 {
        stage.tell(Msg::Timer(Timer::Spin));
    }
    assert!(stage.effects.is_empty(), "{:?}", stage.effects);
}
