//! The front end of an agent that shows the agent's own updates, options and questions, as an editor does that uses the agent
//! through hfs.

use std::collections::HashMap;

use agent_client_protocol_schema::v1::{
    SessionConfigOption, SessionConfigOptionCategory, SessionConfigOptionValue, SessionConfigSelect,
    SessionConfigSelectOption, SessionModeState, SetSessionConfigOptionRequest, SetSessionModeRequest,
};
use async_trait::async_trait;
use serde::Deserialize as _;
use serde_json::Value;

use crate::rpc::RpcError;

/// Which files an agent reads and writes through its front end, which has changes that are not saved yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileAccess {
    /// Whether it reads text files.
    pub read: bool,
    /// Whether it writes text files.
    pub write: bool,
}

impl FileAccess {
    /// The requests of the agent that this allows.
    pub(crate) fn methods(self) -> Vec<&'static str> {
        let methods = [(self.read, "fs/read_text_file"), (self.write, "fs/write_text_file")];
        methods.into_iter().filter(|(is_offered, _)| *is_offered).map(|(_, method)| method).collect()
    }
}

/// Shows an agent's own updates and options. Its functions must not block.
#[async_trait]
pub trait FrontEnd: Send + Sync {
    /// Shows an update, as it came: during a turn after it was recorded, or between two turns.
    fn update(&self, update: &Value);

    /// [`AcpAgent::options`](crate::AcpAgent::options) has changed.
    fn options_changed(&self);

    /// The files that the front end offers.
    fn files(&self) -> FileAccess;

    /// Answers a request about a file. What the agent did before is durable.
    ///
    /// # Errors
    /// What the agent is answered with.
    async fn request(&self, method: &str, params: Value) -> Result<Value, RpcError>;
}

/// The value of an option of an agent's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// On or off.
    Switch(bool),
    /// The id of one of several values.
    Choice(String),
}

impl OptionValue {
    fn to_json(&self) -> Value {
        match self {
            Self::Switch(is_on) => (*is_on).into(),
            Self::Choice(id) => id.as_str().into(),
        }
    }
}

impl From<SessionConfigOptionValue> for OptionValue {
    fn from(value: SessionConfigOptionValue) -> Self {
        match value {
            SessionConfigOptionValue::Boolean { value } => Self::Switch(value),
            SessionConfigOptionValue::ValueId { value } => Self::Choice(value.to_string()),
            _ => Self::Choice(String::new()),
        }
    }
}

/// Id of the option that stands for the modes of an agent that has no options.
const MODE: &str = "mode";

/// The options of the agent's sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct OpenOptions {
    /// The agent's id of the session in use, whose options the front end shows.
    pub session: Option<String>,
    all: HashMap<String, AgentOptions>,
}

impl OpenOptions {
    /// Adds a session, with the options in the answer that opened it.
    pub fn add(&mut self, session: &str, opened: &Value) {
        self.all.insert(session.to_owned(), AgentOptions::of_session(opened));
    }

    /// The options of a session.
    pub fn of(&mut self, session: &str) -> &mut AgentOptions {
        self.all.entry(session.to_owned()).or_default()
    }

    /// The options of the session in use, for a user.
    pub fn shown(&self) -> Vec<Value> {
        let in_use = self.session.as_ref().and_then(|session| self.all.get(session));
        in_use.map(|options| options.options.clone()).unwrap_or_default()
    }

    /// Applies an update of the session in use. Returns whether it is about the options.
    pub fn apply(&mut self, update: &Value) -> bool {
        let in_use = self.session.as_ref().and_then(|session| self.all.get_mut(session));
        in_use.is_some_and(|options| options.apply(update))
    }
}

/// The options of an agent's session, as the agent described them.
#[derive(Debug, Default)]
pub(crate) struct AgentOptions {
    /// The options, each with its current value.
    options: Vec<Value>,
    /// Whether the agent has modes instead of options.
    has_only_modes: bool,
}

impl AgentOptions {
    /// The options in the answer that opened a session.
    fn of_session(opened: &Value) -> Self {
        if let Some(options) = opened.get("configOptions").and_then(Value::as_array) {
            return Self { options: options.clone(), has_only_modes: false };
        }
        let modes = opened.get("modes").and_then(|modes| SessionModeState::deserialize(modes).ok());
        let option = modes.and_then(|modes| serde_json::to_value(mode_option(modes)).ok());
        Self { has_only_modes: option.is_some(), options: option.into_iter().collect() }
    }

    /// Replaces the current mode in the answer that opened a session.
    pub fn change_mode(opened: &mut Value, mode: &str) {
        if let Some(current) = opened.pointer_mut("/modes/currentModeId") {
            *current = mode.into();
        }
        let options = opened.get_mut("configOptions").and_then(Value::as_array_mut).into_iter().flatten();
        for option in options.filter(|option| has_category(option, "mode")) {
            set_value(option, &OptionValue::Choice(mode.to_owned()));
        }
    }

    /// The model that the session uses, if there is an option for it.
    pub fn model(&self) -> Option<String> {
        selected_model(&self.options)
    }

    /// The current value of an option, if it is known.
    pub fn value(&self, id: &str) -> Option<OptionValue> {
        match self.option(id)?.get("currentValue")? {
            Value::Bool(is_on) => Some(OptionValue::Switch(*is_on)),
            Value::String(value) => Some(OptionValue::Choice(value.clone())),
            _ => None,
        }
    }

    fn option(&self, id: &str) -> Option<&Value> {
        self.options.iter().find(|option| option.get("id").and_then(Value::as_str) == Some(id))
    }

    /// The method and the parameters of the request that sets an option.
    pub fn request(&self, session: &str, id: &str, value: &OptionValue) -> (&'static str, Value) {
        let (session, id) = (session.to_owned(), id.to_owned());
        let params = match value {
            OptionValue::Choice(mode) if self.has_only_modes => {
                let request = SetSessionModeRequest::new(session, mode.clone());
                return ("session/set_mode", serde_json::to_value(request).unwrap_or_default());
            }
            OptionValue::Choice(value) => SetSessionConfigOptionRequest::new(
                session,
                id,
                SessionConfigOptionValue::value_id(value.clone()),
            ),
            OptionValue::Switch(is_on) => {
                SetSessionConfigOptionRequest::new(session, id, SessionConfigOptionValue::boolean(*is_on))
            }
        };
        ("session/set_config_option", serde_json::to_value(params).unwrap_or_default())
    }

    /// Notes that an option was set. `response` may have all options.
    pub fn set(&mut self, id: &str, value: &OptionValue, response: &Value) {
        if let Some(options) = response.get("configOptions").and_then(Value::as_array) {
            self.options.clone_from(options);
            return;
        }
        let mut options = self.options.iter_mut();
        if let Some(option) = options.find(|option| option.get("id").and_then(Value::as_str) == Some(id)) {
            set_value(option, value);
        }
    }

    fn apply(&mut self, update: &Value) -> bool {
        match update.get("sessionUpdate").and_then(Value::as_str) {
            Some("config_option_update") => {
                if let Some(options) = update.get("configOptions").and_then(Value::as_array) {
                    self.options.clone_from(options);
                    self.has_only_modes = false;
                }
                true
            }
            Some("current_mode_update") => {
                if let Some(mode) = update.get("currentModeId").and_then(Value::as_str) {
                    let mode = OptionValue::Choice(mode.to_owned());
                    let options = self.options.iter_mut().filter(|option| has_category(option, "mode"));
                    options.for_each(|option| set_value(option, &mode));
                }
                true
            }
            _ => false,
        }
    }
}

fn has_category(option: &Value, category: &str) -> bool {
    option.get("category").and_then(Value::as_str) == Some(category)
}

/// The current value of the option for the model.
pub(crate) fn selected_model(options: &[Value]) -> Option<String> {
    let option = options.iter().find(|option| has_category(option, "model"))?;
    option.get("currentValue")?.as_str().map(str::to_owned)
}

fn set_value(option: &mut Value, value: &OptionValue) {
    if let Value::Object(fields) = option {
        fields.insert("currentValue".into(), value.to_json());
    }
}

/// Modes as an option: the front end shows one kind of selector.
fn mode_option(modes: SessionModeState) -> SessionConfigOption {
    let values = modes.available_modes.into_iter().map(|mode| {
        SessionConfigSelectOption::new(mode.id.to_string(), mode.name).description(mode.description)
    });
    let select = SessionConfigSelect::new(modes.current_mode_id.to_string(), values.collect::<Vec<_>>());
    let kind = agent_client_protocol_schema::v1::SessionConfigKind::Select(select);
    SessionConfigOption::new(MODE, "Mode", kind).category(SessionConfigOptionCategory::Mode)
}
