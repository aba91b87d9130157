//! The example plugins in `plugins/`.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{Hooks, RunSnapshot, SessionId, Verdict};
use hfs_plugins::{PluginState, Plugins};

use crate::fixture::{Home, state};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A host with this example, installed as by `hfs plugin install`.
async fn host_with(name: &str, settings: &str) -> Plugins {
    let home = Home::new();
    let source = repository().join("plugins").join(name);
    let folder = home.path().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["manifest.yaml", "plugin.wasm"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    fs::write(home.path().join("plugin_settings.yaml"), settings).unwrap();
    let plugins = home.start(&[name]).await;
    assert_eq!(state(&plugins, name), (PluginState::Active, String::new()));
    plugins
}

#[tokio::test]
async fn the_secret_guard_masks_keys_and_nothing_else() {
    let plugins = host_with("secret-guard", "").await;
    let session = SessionId::generate();
    // Assembled here, so that scanners do not find a key in this file.
    let key = format!("sk-{}{}", "ant-", "A1b2C3d4E5f6G7h8I9j0K1l2");
    let verdict = plugins.on_message(session, &format!("use {key}, please"), true).await;
    assert_eq!(verdict, Verdict::Replace("use sk-ant-[masked], please".into()));
    assert_eq!(plugins.on_message(session, "a risk-averse task-force", true).await, Verdict::Pass);
    let block = format!("-----BEGIN {} KEY-----\nabc\n-----END {} KEY-----", "PRIVATE", "PRIVATE");
    assert_eq!(plugins.on_message(session, &block, false).await, Verdict::Replace("[masked]".into()));
    let strict = host_with("secret-guard", "secret-guard: { mode: reject }\n").await;
    let rejected = strict.on_message(session, &key, true).await;
    let reason = "it holds an Anthropic key".to_owned();
    assert_eq!(rejected, Verdict::Reject { plugin: "secret-guard".into(), reason });
}

#[tokio::test]
async fn the_token_meter_sums_up_the_tokens_of_runs() {
    let plugins = host_with("token-meter", "token-meter: { price_per_million: 2.0 }\n").await;
    let session = SessionId::generate();
    for tokens in [1_000, 234] {
        let mut snapshot = RunSnapshot::default();
        snapshot.usage.total_tokens = tokens;
        plugins.on_run_complete(session, &snapshot).await;
    }
    let output = plugins.run("tokens", "", Some(session)).await.unwrap().unwrap();
    assert_eq!(output, "**1 234 tokens**, $0.0025 in this session; 234 in the last run.");
}

#[tokio::test]
async fn the_standup_reports_a_missing_store_and_invalid_arguments() {
    let plugins = host_with("standup", "").await;
    let error = plugins.run("standup", "", None).await.unwrap_err().to_string();
    assert!(error.contains("no store is open"), "{error}");
    assert!(plugins.run("standup", "many", None).await.unwrap_err().to_string().contains("1 to 31"));
}
