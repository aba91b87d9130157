//! The plugins in `plugins/`: what they promise, and that their components were built from the sources beside them.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{Hooks, RunSnapshot, SessionId, Verdict};
use hfs_plugins::{Plugins, State};

use crate::fixture::{Home, state};

const EXAMPLES: [&str; 3] = ["secret-guard", "standup", "token-meter"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A home with this example, as `hfs plugin install` puts it there.
async fn with(name: &str, settings: &str) -> Plugins {
    let home = Home::new();
    let source = repository().join("plugins").join(name);
    let folder = home.path().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["manifest.yaml", "plugin.wasm"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    fs::write(home.path().join("plugin_settings.yaml"), settings).unwrap();
    let plugins = home.begin(&[name]).await;
    assert_eq!(state(&plugins, name), (State::Active, String::new()));
    plugins
}

#[tokio::test]
async fn the_secret_guard_masks_keys_and_nothing_else() {
    let plugins = with("secret-guard", "").await;
    let session = SessionId::generate();
    // Put together here, so that this file holds nothing that looks like a key.
    let key = format!("sk-{}{}", "ant-", "A1b2C3d4E5f6G7h8I9j0K1l2");
    let said = plugins.on_message(session, &format!("use {key}, please"), true).await;
    assert_eq!(said, Verdict::Replace("use sk-ant-[masked], please".into()));
    assert_eq!(plugins.on_message(session, "a risk-averse task-force", true).await, Verdict::Pass);
    let block = format!("-----BEGIN {} KEY-----\nabc\n-----END {} KEY-----", "PRIVATE", "PRIVATE");
    assert_eq!(plugins.on_message(session, &block, false).await, Verdict::Replace("[masked]".into()));
    let strict = with("secret-guard", "secret-guard: { mode: reject }\n").await;
    let rejected = strict.on_message(session, &key, true).await;
    let reason = "it holds an Anthropic key".to_owned();
    assert_eq!(rejected, Verdict::Reject { plugin: "secret-guard".into(), reason });
}

#[tokio::test]
async fn the_token_meter_counts_what_runs_cost() {
    let plugins = with("token-meter", "token-meter: { price_per_million: 2.0 }\n").await;
    let session = SessionId::generate();
    for tokens in [1_000, 234] {
        let mut snapshot = RunSnapshot::default();
        snapshot.usage.total_tokens = tokens;
        plugins.on_run_complete(session, &snapshot).await;
    }
    let said = plugins.run("tokens", "", Some(session)).await.unwrap().unwrap();
    assert_eq!(said, "**1 234 tokens**, $0.0025 in this session; 234 in the last run.");
}

#[tokio::test]
async fn the_standup_says_when_there_is_nothing_to_read() {
    let plugins = with("standup", "").await;
    let error = plugins.run("standup", "", None).await.unwrap_err().to_string();
    assert!(error.contains("no store is open"), "{error}");
    assert!(plugins.run("standup", "many", None).await.unwrap_err().to_string().contains("1 to 31"));
}

/// Everything that an example's component is made from.
fn sources(name: &str) -> String {
    let repository = repository();
    let plugin = format!("plugins/{name}");
    let files = [
        format!("{plugin}/Cargo.toml"),
        format!("{plugin}/Cargo.lock"),
        format!("{plugin}/src/lib.rs"),
        "sdk/rust/Cargo.toml".into(),
        "sdk/rust/src/lib.rs".into(),
        "sdk/rust/src/bindings.rs".into(),
        "wit/0.1/hfs-plugin.wit".into(),
    ];
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let bytes = fs::read(repository.join(&file)).unwrap();
        hasher.update(file.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// After `hfs plugin build` on each, `HFS_ACCEPT_COMPONENTS=1` writes down what they were built from.
#[test]
fn the_components_were_built_from_the_sources_beside_them() {
    for name in EXAMPLES {
        let record = repository().join("plugins").join(name).join("plugin.wasm.sources");
        let now = sources(name);
        if std::env::var_os("HFS_ACCEPT_COMPONENTS").is_some() {
            fs::write(&record, format!("{now}\n")).unwrap();
        }
        let built_from = fs::read_to_string(&record).unwrap();
        assert_eq!(
            built_from.trim(),
            now,
            "plugins/{name} has to be built again: hfs plugin build plugins/{name}"
        );
    }
}
