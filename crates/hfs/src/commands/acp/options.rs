//! The selectors that an editor shows: the agent, the model, and the options of an agent that is a program.

use std::rc::Rc;

use hfs_acp::wire::{
    SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory, SessionConfigSelect,
    SessionConfigSelectOption, SetSessionConfigOptionRequest, SetSessionConfigOptionResponse,
};
use hfs_acp::{OptionValue, RpcError, RpcErrorCode};
use serde::Deserialize as _;
use serde_json::json;

use super::session::{EditorSession, SessionAgent};
use super::{Server, rpc_error};
use crate::config::BUILT_IN;
use crate::context::{Context, SessionChoices};
use crate::output::error::CliError;
use crate::wiring::programs;

/// Ids of the options of hfs. Agents have ids of their own, such as `model`, which are passed on.
const AGENT: &str = "hfs_agent";
const MODEL: &str = "hfs_model";

/// An agent that can be selected: its name, and how people call it.
pub type SelectableAgent = (String, String);

/// The agents that can answer: those of hfs, and the installed programs.
pub fn selectable_agents(context: &Context) -> Vec<SelectableAgent> {
    let own = BUILT_IN.into_iter().map(|name| (name.to_owned(), name.to_owned()));
    let installed = programs::installed(&context.settings.programs, &context.environment);
    own.chain(installed.map(|program| (program.name, program.title))).collect()
}

/// The options of a session with their values.
pub fn of(session: &EditorSession) -> Vec<SessionConfigOption> {
    of_agent(&session.agent())
}

/// The options of a session in which this agent answers.
pub fn of_agent(agent: &SessionAgent) -> Vec<SessionConfigOption> {
    let mut names = agent.selectable.clone();
    if !names.iter().any(|(name, _)| *name == agent.name) {
        names.push((agent.name.clone(), agent.name.clone()));
    }
    let mut options = vec![
        SessionConfigOption::new(AGENT, "Agent", select(&agent.name, names))
            .description("Who answers in this session".to_owned()),
    ];
    if let Some(program) = &agent.program {
        let own = program.options().into_iter();
        options.extend(own.filter_map(|option| SessionConfigOption::deserialize(option).ok()));
    } else if let Some(model) = &agent.model {
        let mut names: Vec<String> = agent.models.borrow().clone();
        if !names.contains(model) {
            names.insert(0, model.clone());
        }
        let names = names.into_iter().map(|name| (name.clone(), name)).collect();
        options.push(
            SessionConfigOption::new(MODEL, "Model", select(model, names))
                .category(SessionConfigOptionCategory::Model),
        );
    }
    options
}

fn select(current: &str, names: Vec<SelectableAgent>) -> SessionConfigKind {
    let values: Vec<SessionConfigSelectOption> =
        names.into_iter().map(|(value, name)| SessionConfigSelectOption::new(value, name)).collect();
    SessionConfigKind::Select(SessionConfigSelect::new(current.to_owned(), values))
}

/// Sets an option. Returns all options.
pub async fn set(
    server: &Rc<Server>,
    session: &Rc<EditorSession>,
    request: SetSessionConfigOptionRequest,
) -> Result<SetSessionConfigOptionResponse, RpcError> {
    let invalid = |message: String| rpc_error(RpcErrorCode::InvalidParams, message);
    let id = request.config_id.to_string();
    let value = OptionValue::from(request.value);
    match (id.as_str(), value) {
        (AGENT, OptionValue::Choice(name)) => {
            session.select(server, SessionChoices { agent: Some(name), model: None }).await?;
        }
        (MODEL, OptionValue::Choice(model)) => {
            let choices = SessionChoices { model: Some(model), ..session.choices() };
            session.select(server, choices).await?;
        }
        (AGENT | MODEL, OptionValue::Switch(_)) => {
            return Err(invalid(format!("{id} has names as values")));
        }
        (_, value) => {
            let program = session.agent().program.clone();
            let Some(program) = program.filter(|_| of(session).iter().any(|option| *option.id.0 == *id))
            else {
                return Err(invalid(format!("there is no option {id:?}")));
            };
            let set = program.set_option(&id, value).await;
            set.map_err(|error| super::wire_error(&CliError::Agent(error.into())))?;
        }
    }
    Ok(SetSessionConfigOptionResponse::new(of(session)))
}

/// Shows the options after a change that the editor did not ask for.
pub fn announce(session: &EditorSession) {
    session.view.show(&json!({"sessionUpdate": "config_option_update", "configOptions": of(session)}));
}
