//! Lists the models of a server.

use hfs_core::AgentError;
use reqwest::{Method, Response};
use serde_json::Value;

use super::body::{Body, BodyError};
use super::context::limit_in;
use super::error_mapper::AttemptError;
use super::server_error::ServerError;
use super::{ProviderModel, endpoint, json};
use crate::ModelConfig;

/// Limit for what a server says about its models.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What a server says about its models.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerModels {
    /// Names of the models.
    pub names: Vec<String>,
    /// Size of the context of the configured model in tokens, if the list has it.
    pub context_tokens: Option<u64>,
}

/// Asks the server of a model which models it offers. Sends no prompt and is not repeated.
///
/// # Errors
/// If the server does not answer within the time to connect, or not with a list.
pub async fn list_models(config: ModelConfig) -> Result<ServerModels, AgentError> {
    let model = ProviderModel::new(config);
    let limit = model.config.timeouts.connect;
    tokio::time::timeout(limit, model.list_models())
        .await
        .unwrap_or_else(|_| Err(model.errors.timed_out(hfs_core::WaitStage::Connection, limit)))
        .map_err(|error| *error.error)
}

impl ProviderModel {
    pub(super) async fn list_models(&self) -> Result<ServerModels, AttemptError> {
        let urls = endpoint::models_urls(self.config.provider, self.base_url()?);
        let mut error = None;
        for url in urls {
            let response = self.send(&Method::GET, url.clone(), None).await?;
            if !response.status().is_success() {
                error.get_or_insert(self.status_error(response).await);
                continue;
            }
            let text = read_text(response).await.map_err(|error| self.errors.body_error(&error, &url))?;
            let list = json::parse_document(&text).ok_or_else(|| self.errors.not_a_reply(&text))?;
            let names = names(&list);
            let is_asked =
                |name: &str| name == self.config.model || Some(name) == self.name_without_provider();
            return match ServerError::in_payload(&list).filter(|_| names.is_empty()) {
                Some(error) => Err(self.errors.error_in_stream(error)),
                None => Ok(ServerModels { names, context_tokens: context_of(&list, is_asked) }),
            };
        }
        Err(error.unwrap_or_else(|| self.errors.invalid_configuration("it has no address")))
    }
}

/// The text of a response, cut at the limit.
pub(super) async fn read_text(response: Response) -> Result<String, BodyError> {
    let body = Body::new(response).read(MAX_ANSWER_BYTES).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The names of the models in a response. `None` if it is not a list.
pub(super) async fn read_names(response: Response) -> Option<Vec<String>> {
    Some(names(&json::parse_document(&read_text(response).await.ok()?)?))
}

/// The models in a list in any of the protocols.
fn items(list: &Value) -> &[Value] {
    let items =
        ["data", "models"].iter().find_map(|name| list.get(*name)?.as_array()).or_else(|| list.as_array());
    items.map(Vec::as_slice).unwrap_or_default()
}

/// The name of a model in a list.
fn name(item: &Value) -> Option<&str> {
    let name = ["id", "name", "model"]
        .iter()
        .find_map(|name| item.get(*name)?.as_str())
        .or_else(|| item.as_str())?;
    Some(name.strip_prefix("models/").unwrap_or(name))
}

/// The context of the model in a list for whose name `is_asked` holds. A server with one model answers to any name.
fn context_of(list: &Value, is_asked: impl Fn(&str) -> bool) -> Option<u64> {
    let models = items(list);
    let named = models.iter().find(|item| name(item).is_some_and(&is_asked));
    let only = || models.first().filter(|_| models.len() == 1);
    limit_in(named.or_else(only)?)
}

fn names(list: &Value) -> Vec<String> {
    items(list).iter().filter_map(name).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_in_the_lists_of_all_protocols() {
        for list in [
            json!({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}),
            json!({"models": [{"name": "models/a", "displayName": "A"}, {"name": "models/b"}]}),
            json!({"models": [{"name": "a", "model": "a"}, {"model": "b"}]}),
            json!(["a", "b"]),
            json!([{"id": "a"}, {"id": "b"}]),
        ] {
            assert_eq!(names(&list), ["a", "b"], "{list}");
        }
        assert_eq!(names(&json!({"error": "x"})), [] as [&str; 0]);
    }
}
