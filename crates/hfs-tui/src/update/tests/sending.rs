//! What is said: sent, queued, answered, refused.

use super::*;

#[test]
fn what_is_typed_is_sent_once_and_shown_as_not_saved_until_it_is() {
    let mut stage = chat();
    stage.effects.clear();
    stage.say("hello");
    let sent =
        stage.effects.iter().filter(|effect| matches!(effect, Effect::Send { text, .. } if text == "hello"));
    assert_eq!(sent.count(), 1);
    assert_eq!(stage.model.chat.save, SaveState::Saving);
    assert!(stage.model.chat.input.is_empty());
    stage.tell(Msg::Update(Update::Sent(Arc::new(said(8, Role::User, "hello")))));
    assert_eq!(stage.model.chat.save, SaveState::Saved);
    assert_eq!(stage.model.chat.transcript.messages().next_back().unwrap().seq, 8);
}

#[test]
fn the_first_message_of_a_conversation_gives_it_its_place() {
    let mut stage = empty();
    stage.say("hello");
    let session = SessionId::generate();
    stage.tell(Msg::Update(Update::SessionCreated { session, name: "Hello".into() }));
    let message = said(1, Role::User, "hello");
    let branch = message.branch;
    stage.tell(Msg::Update(Update::Sent(Arc::new(message))));
    let expected = Conversation::at(session, Position { branch, head: 1 });
    assert_eq!(stage.model.chat.conversation, expected);
    assert_eq!(stage.model.exit().session, Some(session));
}

#[test]
fn while_a_reply_is_on_its_way_nothing_else_moves_the_conversation() {
    let mut stage = chat();
    stage.say("one");
    for command in ["/new", "/undo", "/fork", "/delete"] {
        stage.say(command);
        assert!(notice(&stage).contains("in progress"), "{command}");
    }
}

fn sent(stage: &mut Stage) -> Vec<String> {
    let texts = stage.effects.drain(..).filter_map(|effect| match effect {
        Effect::Send { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn what_is_said_while_a_reply_is_on_its_way_waits_and_is_sent_one_by_one() {
    let mut stage = chat();
    stage.say("one");
    stage.say("two");
    stage.say("three");
    assert_eq!(sent(&mut stage), ["one"]);
    assert!(stage.model.chat.input.is_empty());
    end(&mut stage, Ok(exchange(None)));
    assert_eq!(sent(&mut stage), ["two"]);
    end(&mut stage, Ok(exchange(None)));
    assert_eq!(sent(&mut stage), ["three"]);
    end(&mut stage, Ok(exchange(None)));
    assert_eq!(sent(&mut stage), [""; 0]);
}

#[test]
fn after_a_reply_that_did_not_come_whole_what_waited_is_back_in_the_input() {
    for failure in
        [AgentError::Cancelled, AgentError::Malformed { provider: "openai".into(), message: "gone".into() }]
    {
        let mut stage = chat();
        stage.say("one");
        stage.say("two");
        stage.say("three");
        stage.tell(Msg::Paste("a draft".into()));
        stage.effects.clear();
        end(&mut stage, Ok(exchange(Some(failure))));
        assert_eq!(sent(&mut stage), [""; 0]);
        assert_eq!(stage.model.chat.input.text(), "two\n\nthree\n\na draft");
    }
}

#[test]
fn up_takes_back_what_waits_before_it_goes_into_history() {
    let mut stage = chat();
    stage.say("one");
    stage.say("two");
    stage.say("three");
    stage.press(KeyCode::Up, NONE);
    assert_eq!(stage.model.chat.input.text(), "three");
    assert_eq!(stage.model.chat.queue, ["two"]);
}

#[test]
fn what_waits_is_not_left_behind_unasked() {
    let mut stage = chat();
    stage.say("one");
    stage.say("two");
    stage.effects.clear();
    stage.say("/exit");
    assert!(!stage.effects.contains(&Effect::Quit));
    stage.press(KeyCode::Esc, NONE);
    assert_eq!(stage.model.chat.queue, ["two"]);
    stage.say("/exit");
    stage.press(KeyCode::Enter, NONE);
    assert!(stage.effects.contains(&Effect::Quit));
}

#[test]
fn a_message_that_met_a_conflict_keeps_what_was_written_behind_it() {
    let mut stage = chat();
    stage.say("mine");
    stage.tell(Msg::Paste("a draft".into()));
    let place = |head| Position { branch: BranchId::generate(), head };
    let source = StoreError::HeadMismatch { expected: place(7), found: place(9) };
    end(&mut stage, Err(SendError::NotSaved { text: "mine".into(), source }));
    assert_eq!(stage.model.chat.input.text(), "mine\n\na draft");
    stage.press(KeyCode::Char('f'), NONE);
    assert!(matches!(stage.effects.last(), Some(Effect::SendOnFork { text, .. }) if text == "mine"));
    assert_eq!(stage.model.chat.input.text(), "a draft");
}

#[test]
fn esc_stops_the_reply_once() {
    let mut stage = chat();
    stage.say("one");
    stage.effects.clear();
    stage.press(KeyCode::Esc, NONE);
    stage.press(KeyCode::Esc, NONE);
    assert_eq!(stage.effects, [Effect::Interrupt]);
    end(&mut stage, Ok(exchange(Some(AgentError::Cancelled))));
    assert!(!stage.model.chat.is_busy());
    assert!(stage.model.chat.trouble.is_none());
}

#[test]
fn an_error_of_the_provider_offers_to_try_again() {
    let mut stage = chat();
    stage.say("hello");
    let message = Arc::new(said(8, Role::User, "hello"));
    stage.tell(Msg::Update(Update::Sent(Arc::clone(&message))));
    let error =
        AgentError::Unavailable { provider: "openai".into(), message: "503".into(), retry_after: None };
    end(&mut stage, Ok(exchange(Some(error))));
    assert!(stage.model.chat.trouble.is_some());
    stage.effects.clear();
    stage.press(KeyCode::F(5), NONE);
    assert!(
        stage
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::AnswerAgain { user, .. } if user.seq == 8))
    );
    assert!(stage.model.chat.is_busy() && stage.model.chat.trouble.is_none());
}

#[test]
fn a_message_that_was_not_saved_is_back_in_the_input() {
    let mut stage = chat();
    stage.say("precious");
    let source = StoreError::Unavailable { action: "write".into(), source: "disk full".into() };
    end(&mut stage, Err(SendError::NotSaved { text: "precious".into(), source }));
    assert_eq!(stage.model.chat.input.text(), "precious");
    assert!(stage.model.chat.trouble.as_ref().unwrap().message.contains("disk full"));
    stage.effects.clear();
    stage.press(KeyCode::Enter, NONE);
    assert!(
        stage.effects.iter().any(|effect| matches!(effect, Effect::Send { text, .. } if text == "precious"))
    );
}

#[test]
fn somebody_elses_words_offer_a_fork_or_a_reload() {
    let moved = |stage: &mut Stage| {
        stage.say("mine");
        let at = |head| Position { branch: BranchId::generate(), head };
        let source = StoreError::HeadMismatch { expected: at(7), found: at(9) };
        end(stage, Err(SendError::NotSaved { text: "mine".into(), source }));
        assert!(matches!(stage.model.modals.last(), Some(Modal::Conflict { .. })));
        stage.effects.clear();
    };
    let mut stage = chat();
    moved(&mut stage);
    stage.press(KeyCode::Char('f'), NONE);
    assert!(
        stage
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::SendOnFork { text, .. } if text == "mine"))
    );
    let mut stage = chat();
    moved(&mut stage);
    stage.press(KeyCode::Char('r'), NONE);
    assert!(stage.effects.iter().any(|effect| matches!(effect, Effect::Open { .. })));
    assert_eq!(stage.model.chat.input.text(), "mine");
}

#[test]
fn a_reply_that_cannot_be_saved_is_loud_and_stays_on_the_screen() {
    let mut stage = chat();
    stage.say("hello");
    stage.tell(Msg::Update(Update::Sent(Arc::new(said(8, Role::User, "hello")))));
    stage.tell(Msg::Update(Update::Reply { kind: DeltaKind::Text, text: "part of it".into() }));
    stage.tell(Msg::Update(Update::NotSaved { reason: "no space".into() }));
    stage.tell(Msg::Update(Update::Reply { kind: DeltaKind::Text, text: " and more".into() }));
    assert_eq!(stage.model.chat.save, SaveState::NotSaved("no space".into()));
    let picture = format!("{:?}", stage.picture().0);
    assert!(picture.contains("part of it and more") && picture.contains("NOT SAVED"));
    stage.tell(Msg::Update(Update::Saved));
    assert_eq!(stage.model.chat.save, SaveState::Saved);
}
