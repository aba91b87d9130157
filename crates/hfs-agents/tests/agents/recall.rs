//! The offline agent on an in-memory store.

use std::sync::Arc;

use hfs_agents::Recall;
use hfs_core::{
    Agent, BranchId, Clock, MessageDraft, Part, PassthroughFields, Position, Role, SessionDraft, SessionId,
    Store, SystemClock, Timestamp,
};
use hfs_store::MemoryStore;

use crate::{question, request, run};

fn at(day: u32) -> Timestamp {
    format!("2026-01-{day:02}T10:00:00Z").parse().unwrap()
}

fn message(role: Role, text: &str, day: u32) -> MessageDraft {
    MessageDraft::new(role, vec![Part::text(text)], at(day))
}

pub fn empty_store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock) as Arc<dyn Clock>))
}

fn save(store: &dyn Store, name: &str, messages: &[MessageDraft]) -> (SessionId, BranchId) {
    let draft = SessionDraft {
        id: SessionId::generate(),
        name: name.into(),
        automatic_name: false,
        project: None,
        created_at: at(1),
        origin: None,
        extra: PassthroughFields::new(),
        main_branch: BranchId::generate(),
    };
    store.create_session(&draft).unwrap();
    store.append(Position { branch: draft.main_branch, head: 0 }, messages).unwrap();
    (draft.id, draft.main_branch)
}

pub fn store_with_two_sessions() -> (Arc<dyn Store>, SessionId) {
    let store = empty_store();
    let (login, _) = save(
        &*store,
        "Fix *login* bug",
        &[
            message(Role::User, "The login fails after the token expires, why?", 3),
            message(Role::Assistant, "The refresh token was sent to the wrong endpoint; login works now.", 3),
        ],
    );
    save(
        &*store,
        "Garden",
        &[
            message(Role::User, "When should tomatoes be planted?", 5),
            message(Role::Assistant, "After the last frost.\n```\nan open fence", 5),
        ],
    );
    (store, login)
}

#[tokio::test]
async fn a_question_is_answered_with_quotations_and_their_citations() {
    let (store, login) = store_with_two_sessions();
    let (sink, outcome) =
        run(&Recall::new(store), question("How did we fix the login when the token had expired?")).await;
    let text = sink.text();
    assert!(text.contains("refresh token was sent to the wrong endpoint"), "{text}");
    let short = login.short();
    assert!(text.contains(&format!("`{}` #2, assistant, 2026-01-03", short.shown())), "{text}");
    assert!(text.contains("**Fix \\*login\\* bug**"), "{text}");
    assert!(text.contains("not a model") && text.contains("hfs config set model"), "{text}");
    assert!(!text.contains("tomatoes"), "{text}");
    let outcome = outcome.unwrap();
    assert_eq!(outcome.message.parts, [Part::text(text)]);
    let references = outcome.message.extra.get("references").unwrap().as_array().unwrap();
    assert_eq!(references[0]["session"], login.to_string());
    assert_eq!(sink.kinds(), ["agent.started", "agent.ended"]);
}

#[tokio::test]
async fn the_same_question_has_the_same_answer() {
    let (store, _) = store_with_two_sessions();
    let recall = Recall::new(store);
    let (first, _) = run(&recall, question("login token tomatoes frost")).await;
    let (second, _) = run(&recall, question("login token tomatoes frost")).await;
    assert!(first.text().contains("frost") && first.text().contains("login"));
    assert_eq!(first.text(), second.text());
}

#[tokio::test]
async fn other_forms_of_the_words_are_found_and_the_reply_is_shown() {
    let (store, _) = store_with_two_sessions();
    let (sink, _) = run(&Recall::new(store), question("planting a tomato")).await;
    let text = sink.text();
    assert!(text.contains("When should tomatoes be planted?"), "{text}");
    assert!(text.contains("The reply began:"), "{text}");
    assert!(text.contains("After the last frost."), "{text}");
}

#[tokio::test]
async fn neither_the_question_nor_an_earlier_answer_of_this_agent_is_quoted() {
    let store = empty_store();
    let asking = message(Role::User, "what about zanzibar?", 4);
    let mut own = message(Role::Assistant, "From your saved sessions: zanzibar", 4);
    own.agent = Some("recall".into());
    let (session, branch) =
        save(&*store, "This one", &[message(Role::User, "zanzibar is warm", 4), own, asking.clone()]);
    let mut request = request(vec![asking]);
    (request.session, request.branch) = (session, branch);
    let (sink, outcome) = run(&Recall::new(store), request).await;
    assert!(sink.text().contains("zanzibar is warm"), "{}", sink.text());
    assert_eq!(outcome.unwrap().message.extra.get("references").unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn near_duplicates_are_quoted_once() {
    let store = empty_store();
    for number in 0..4 {
        let text = format!("please run the zanzibar migration on the staging server now ({number})");
        save(&*store, &format!("Session {number}"), &[message(Role::User, &text, 4)]);
    }
    let (sink, _) = run(&Recall::new(store), question("zanzibar migration")).await;
    let text = sink.text();
    assert_eq!(text.matches("> please run").count(), 1, "{text}");
    assert!(text.contains("Nearly the same in"), "{text}");
}

#[tokio::test]
async fn text_ranks_above_tool_output_and_no_session_displaces_the_others() {
    let store = empty_store();
    let output =
        Part::ToolResult { id: "1".into(), output: "zanzibar migration log".into(), is_error: false };
    let mut long: Vec<MessageDraft> = vec![MessageDraft::new(Role::Tool, vec![output], at(9))];
    for word in ["amber", "birch", "cedar", "delta", "ember", "fjord"] {
        long.push(message(Role::User, &format!("the zanzibar migration needs {word}, {word} and {word}"), 9));
    }
    save(&*store, "Long", &long);
    save(&*store, "Short", &[message(Role::User, "zanzibar on friday", 2)]);
    let (sink, _) = run(&Recall::new(store), question("zanzibar migration")).await;
    let text = sink.text();
    // Of the long session, three passages precede the other session; one more fills the limit of five passages.
    let before_the_other_session = text.split("on friday").next().unwrap();
    assert_eq!(before_the_other_session.matches("migration needs").count(), 3, "{text}");
    assert_eq!(text.matches("migration needs").count(), 4, "{text}");
    assert!(!text.contains("migration log"), "{text}");
}

#[tokio::test]
async fn passages_with_few_of_the_terms_are_presented_as_closest_matches_only() {
    let (store, _) = store_with_two_sessions();
    let (sink, _) = run(&Recall::new(store), question("login through xylophone quartz")).await;
    assert!(sink.text().starts_with("Nothing in your saved sessions has most of *login*"), "{}", sink.text());
}

#[tokio::test]
async fn a_frequent_term_alone_does_not_answer_a_question_about_a_rare_one() {
    let store = empty_store();
    let messages: Vec<_> =
        (0..30).map(|n| message(Role::User, &format!("login attempt {n}"), n + 1)).collect();
    save(&*store, "Logins", &messages);
    let (sink, _) = run(&Recall::new(store), question("login xylophone")).await;
    assert!(sink.text().starts_with("Nothing in your saved sessions has most of *login*"), "{}", sink.text());
}

#[tokio::test]
async fn an_empty_store_and_a_search_without_matches_have_answers_with_advice() {
    let (sink, outcome) = run(&Recall::new(empty_store()), question("login?")).await;
    assert!(outcome.is_ok());
    assert!(sink.text().contains("hfs import ~/.claude"), "{}", sink.text());
    let (store, _) = store_with_two_sessions();
    let (sink, outcome) = run(&Recall::new(store), question("xylophone")).await;
    assert!(outcome.is_ok());
    assert!(sink.text().contains("Nothing in your saved sessions matches *xylophone*"), "{}", sink.text());
}

#[tokio::test]
async fn any_text_can_be_a_question() {
    let (store, _) = store_with_two_sessions();
    let recall = Recall::new(store);
    for text in
        ["", "\"", "\u{0}", "AND OR NOT (", "the and of", &"word ".repeat(5_000), "日本語 *", "\"login"]
    {
        let (_, outcome) = run(&recall, question(text)).await;
        assert!(outcome.is_ok(), "{text:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn the_description_says_that_it_is_a_search() {
    let description = Recall::new(empty_store()).describe();
    assert_eq!((description.name.as_str(), description.model), ("recall", None));
    assert!(description.summary.contains("search over your saved sessions"));
}
