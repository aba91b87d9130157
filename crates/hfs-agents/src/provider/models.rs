//! Lists the models of a server.

use hfs_core::AgentError;
use reqwest::Method;
use serde_json::Value;

use super::error_mapper::AttemptError;
use super::{ProviderModel, endpoint};
use crate::ModelConfig;

/// Limit for the list.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// Asks the server of a model which models it offers. Sends no prompt and is not repeated.
///
/// # Errors
/// If the server does not answer within the time to connect, or not with a list.
pub async fn list_models(config: ModelConfig) -> Result<Vec<String>, AgentError> {
    let model = ProviderModel::new(config);
    let limit = model.config.timeouts.connect;
    tokio::time::timeout(limit, model.list_models())
        .await
        .unwrap_or_else(|_| Err(model.errors.timed_out(hfs_core::WaitStage::Connection)))
        .map_err(|error| *error.error)
}

impl ProviderModel {
    async fn list_models(&self) -> Result<Vec<String>, AttemptError> {
        let urls = endpoint::models_urls(self.config.provider, self.base_url()?);
        let mut error = None;
        for url in urls {
            let mut response = self.send(&Method::GET, url.clone(), None).await?;
            if !response.status().is_success() {
                error.get_or_insert(self.status_error(response).await);
                continue;
            }
            let mut body = Vec::new();
            let mut read = async || -> Result<(), reqwest::Error> {
                while let Some(chunk) = response.chunk().await? {
                    body.extend_from_slice(&chunk);
                    if body.len() > MAX_LIST_BYTES {
                        break;
                    }
                }
                Ok(())
            };
            read().await.map_err(|error| self.errors.connection_error(&error, &url))?;
            let text = String::from_utf8_lossy(&body);
            return match serde_json::from_str(&text) {
                Ok(list) => Ok(names(&list)),
                Err(_) => Err(self.errors.not_a_reply(&text)),
            };
        }
        Err(error.unwrap_or_else(|| self.errors.invalid_configuration("it has no address")))
    }
}

/// The names in a list of models in any of the protocols.
fn names(list: &Value) -> Vec<String> {
    let items =
        ["data", "models"].iter().find_map(|name| list.get(*name)?.as_array()).or_else(|| list.as_array());
    let items = items.map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| {
        let name = ["id", "name", "model"]
            .iter()
            .find_map(|name| item.get(*name)?.as_str())
            .or_else(|| item.as_str())?;
        Some(name.strip_prefix("models/").unwrap_or(name).to_owned())
    };
    items.iter().filter_map(name).collect()
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
