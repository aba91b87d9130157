//! What an agent gets from a front end that shows its options and offers files.

use hfs_acp::{FileAccess, FrontEnd, OptionValue, RpcError, RpcErrorCode};

use super::*;

/// A front end that refuses to read a file with this error, or does not answer.
struct UnreadableFiles(Option<RpcError>);

#[async_trait]
impl FrontEnd for UnreadableFiles {
    fn update(&self, _: &Value) {}

    fn options_changed(&self) {}

    fn files(&self) -> FileAccess {
        FileAccess { read: true, write: false }
    }

    async fn request(&self, _: &str, _: Value) -> Result<Value, RpcError> {
        match &self.0 {
            Some(error) => Err(error.clone()),
            None => std::future::pending().await,
        }
    }
}

fn with_front_end(script: &Value, error: Option<RpcError>) -> Conversation {
    let mut conversation = Conversation::new(script);
    conversation.agent = conversation.agent.with_front_end(Arc::new(UnreadableFiles(error)), Vec::new());
    conversation
}

/// The script of an agent whose sessions have an option for the model.
fn with_models() -> Value {
    let models = |current: &str| {
        json!([{
            "id": "model", "name": "Model", "category": "model", "type": "select",
            "currentValue": current, "options": [],
        }])
    };
    let opened =
        |session: &str| json!([{"result": {"sessionId": session, "configOptions": models("small")}}]);
    json!({
        "session/new": [opened("session-1"), opened("session-2")],
        "session/set_config_option": [[{"result": {"configOptions": models("large")}}]],
        "session/prompt": [[chunk("answer")]],
    })
}

fn model(turn: Turn) -> Option<String> {
    turn.result.unwrap().message.model
}

/// Sessions in which the model was set.
fn sessions_with_set_models(conversation: &Conversation) -> Vec<Value> {
    let set = conversation.script.received("session/set_config_option");
    set.iter().map(|request| request["params"]["sessionId"].clone()).collect()
}

#[tokio::test]
async fn a_model_that_is_chosen_before_the_first_message_is_the_model_of_the_reply() {
    let mut conversation = with_front_end(&with_models(), None);
    conversation.agent.prepare().await.unwrap();
    conversation.agent.set_option("model", OptionValue::Choice("large".into())).await.unwrap();
    assert_eq!(model(conversation.say("hi").await).as_deref(), Some("large"));
    assert_eq!(conversation.script.received("session/new").len(), 1);
}

#[tokio::test]
async fn options_are_set_in_the_session_of_the_branch_that_is_in_use() {
    let mut conversation = with_front_end(&with_models(), None);
    conversation.say("first").await.ok();
    let main = (conversation.branch, conversation.history.clone(), conversation.memories.clone());
    // As after a rewind, and after a switch back to the main branch.
    conversation.branch = BranchId::generate();
    conversation.say("on another branch").await.ok();
    let other = (conversation.branch, conversation.history.clone(), conversation.memories.clone());
    (conversation.branch, conversation.history, conversation.memories) = main;
    conversation.say("back").await.ok();
    conversation.agent.set_option("model", OptionValue::Choice("large".into())).await.unwrap();
    assert_eq!(sessions_with_set_models(&conversation), ["session-1"]);
    assert_eq!(model(conversation.say("with another model").await).as_deref(), Some("large"));
    // What the user has chosen holds on every branch.
    (conversation.branch, conversation.history, conversation.memories) = other;
    assert_eq!(model(conversation.say("there").await).as_deref(), Some("large"));
    assert_eq!(sessions_with_set_models(&conversation), ["session-1", "session-2"]);
    assert_eq!(conversation.script.received("session/new").len(), 2);
}

/// A request of the agent for a file, whose answer it waits for.
fn reads_file() -> Value {
    let params = json!({"sessionId": "session-1", "path": "/a.rs"});
    json!({"request": {"id": "r", "method": "fs/read_text_file", "params": params}})
}

#[tokio::test]
async fn an_agent_that_waits_for_a_file_can_end_its_cancelled_turn() {
    let script = json!({"session/prompt": [[chunk("begun"), reads_file()], [chunk("next")]]});
    let mut conversation = with_front_end(&script, None);
    let (turn, _) = conversation.say_and_cancel("first").await;
    assert!(matches!(turn.result, Err(AgentError::Cancelled)), "{:?}", turn.result);
    assert_eq!(conversation.say("second").await.ok().texts(), ["next"]);
    assert_eq!(conversation.script.processes().len(), 1);
}

#[tokio::test]
async fn an_agent_gets_all_that_the_front_end_says_of_an_error() {
    let script = json!({"session/prompt": [[reads_file(), chunk("end")]]});
    let error = RpcError {
        code: RpcErrorCode::NotFound,
        message: "cannot read".into(),
        details: Some("no such file".into()),
    };
    let mut conversation = with_front_end(&script, Some(error));
    conversation.say("first").await.ok();
    conversation.script.wait_for("the error", |entry| {
        let error = &entry["received"]["error"];
        error["code"] == -32002 && error["message"] == "cannot read (no such file)"
    });
}
