//! The offline agent over sessions in memory.

use std::sync::Arc;

use hfs_agents::Recall;
use hfs_core::{
    Agent, BranchId, Clock, MessageDraft, Part, PassthroughFields, Position, Role, SessionDraft, SessionId,
    Store, SystemClock, Timestamp,
};
use hfs_store::MemoryStore;

use crate::support::{question, request, run};

fn at(day: u32) -> Timestamp {
    format!("2026-01-{day:02}T10:00:00Z").parse().unwrap()
}

fn said(role: Role, text: &str, day: u32) -> MessageDraft {
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

pub fn furnished() -> (Arc<dyn Store>, SessionId) {
    let store = empty_store();
    let (login, _) = save(
        &*store,
        "Fix *login* bug",
        &[
            said(Role::User, "The login fails after the token expires, why?", 3),
            said(Role::Assistant, "The refresh token was sent to the wrong endpoint; login works now.", 3),
        ],
    );
    save(
        &*store,
        "Garden",
        &[
            said(Role::User, "When should tomatoes be planted?", 5),
            said(Role::Assistant, "After the last frost.\n```\nan open fence", 5),
        ],
    );
    (store, login)
}

#[tokio::test]
async fn a_question_is_answered_by_quotations_that_say_where_they_stand() {
    let (store, login) = furnished();
    let (heard, outcome) =
        run(&Recall::new(store), question("How did we fix the login when the token had expired?")).await;
    let text = heard.text();
    assert!(text.contains("refresh token was sent to the wrong endpoint"), "{text}");
    let short = login.short();
    assert!(text.contains(&format!("`{}` #2, assistant, 2026-01-03", short.shown())), "{text}");
    assert!(text.contains("**Fix \\*login\\* bug**"), "{text}");
    assert!(text.contains("not a model") && text.contains("hfs config set model"), "{text}");
    assert!(!text.contains("tomatoes"), "{text}");
    let outcome = outcome.unwrap();
    assert_eq!(outcome.parts, [Part::text(text)]);
    let references = outcome.extra["references"].as_array().unwrap();
    assert_eq!(references[0]["session"], login.to_string());
    assert_eq!(heard.kinds(), ["agent.started", "agent.ended"]);
}

#[tokio::test]
async fn the_same_question_gets_the_same_answer() {
    let (store, _) = furnished();
    let recall = Recall::new(store);
    let (first, _) = run(&recall, question("login token tomatoes frost")).await;
    let (second, _) = run(&recall, question("login token tomatoes frost")).await;
    assert!(first.text().contains("frost") && first.text().contains("login"));
    assert_eq!(first.text(), second.text());
}

#[tokio::test]
async fn other_forms_of_the_words_are_found_and_what_was_answered_is_shown() {
    let (store, _) = furnished();
    let (heard, _) = run(&Recall::new(store), question("planting a tomato")).await;
    let text = heard.text();
    assert!(text.contains("When should tomatoes be planted?"), "{text}");
    assert!(text.contains("The reply began:"), "{text}");
    assert!(text.contains("After the last frost."), "{text}");
}

#[tokio::test]
async fn neither_the_question_itself_nor_an_earlier_answer_of_this_agent_is_quoted() {
    let store = empty_store();
    let asking = said(Role::User, "what about zanzibar?", 4);
    let mut own = said(Role::Assistant, "From your saved sessions: zanzibar", 4);
    own.agent = Some("recall".into());
    let (session, branch) =
        save(&*store, "This one", &[said(Role::User, "zanzibar is warm", 4), own, asking.clone()]);
    let mut asked = request(vec![asking]);
    (asked.session, asked.branch) = (session, branch);
    let (heard, outcome) = run(&Recall::new(store), asked).await;
    assert!(heard.text().contains("zanzibar is warm"), "{}", heard.text());
    assert_eq!(outcome.unwrap().extra["references"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_said_many_times_is_quoted_once() {
    let store = empty_store();
    for number in 0..4 {
        let text = format!("please run the zanzibar migration on the staging server now ({number})");
        save(&*store, &format!("Session {number}"), &[said(Role::User, &text, 4)]);
    }
    let (heard, _) = run(&Recall::new(store), question("zanzibar migration")).await;
    let text = heard.text();
    assert_eq!(text.matches("> please run").count(), 1, "{text}");
    assert!(text.contains("Nearly the same in"), "{text}");
}

#[tokio::test]
async fn what_was_said_comes_before_what_a_tool_put_out_and_one_session_does_not_crowd_out_the_others() {
    let store = empty_store();
    let output =
        Part::ToolResult { id: "1".into(), output: "zanzibar migration log".into(), is_error: false };
    let mut long: Vec<MessageDraft> = vec![MessageDraft::new(Role::Tool, vec![output], at(9))];
    for word in ["amber", "birch", "cedar", "delta", "ember", "fjord"] {
        long.push(said(Role::User, &format!("the zanzibar migration needs {word}, {word} and {word}"), 9));
    }
    save(&*store, "Long", &long);
    save(&*store, "Short", &[said(Role::User, "zanzibar on friday", 2)]);
    let (heard, _) = run(&Recall::new(store), question("zanzibar migration")).await;
    let text = heard.text();
    let before_the_other = text.split("on friday").next().unwrap();
    assert_eq!(before_the_other.matches("migration needs").count(), 3, "{text}");
    assert_eq!(text.matches("migration needs").count(), 4, "{text}");
    assert!(!text.contains("migration log"), "{text}");
}

#[tokio::test]
async fn matches_of_little_of_a_question_are_not_passed_off_as_an_answer() {
    let (store, _) = furnished();
    let (heard, _) = run(&Recall::new(store), question("login through xylophone quartz")).await;
    assert!(
        heard.text().starts_with("Nothing in your saved sessions has most of *login*"),
        "{}",
        heard.text()
    );
}

#[tokio::test]
async fn an_empty_store_and_a_search_in_vain_say_what_to_do() {
    let (heard, outcome) = run(&Recall::new(empty_store()), question("login?")).await;
    assert!(outcome.is_ok());
    assert!(heard.text().contains("hfs import ~/.claude"), "{}", heard.text());
    let (store, _) = furnished();
    let (heard, outcome) = run(&Recall::new(store), question("xylophone")).await;
    assert!(outcome.is_ok());
    assert!(heard.text().contains("Nothing in your saved sessions matches *xylophone*"), "{}", heard.text());
}

#[tokio::test]
async fn any_text_is_a_question() {
    let (store, _) = furnished();
    let recall = Recall::new(store);
    for text in
        ["", "\"", "\u{0}", "AND OR NOT (", "the and of", &"word ".repeat(5_000), "日本語 *", "\"login"]
    {
        let (_, outcome) = run(&recall, question(text)).await;
        assert!(outcome.is_ok(), "{text:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_description_says_what_it_is() {
    let description = Recall::new(empty_store()).describe();
    assert_eq!((description.name.as_str(), description.model), ("recall", None));
    assert!(description.summary.contains("search over your saved sessions"));
}
