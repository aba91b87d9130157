//! Translates the suggestions of library errors into commands of this binary.

use hfs_core::{ErrorExt, Suggestion, WaitStage};

/// The hint for a library's error.
pub fn hint(error: &impl ErrorExt) -> Option<String> {
    error.suggestion().as_ref().map(describe)
}

/// Returns the command for a suggestion, or a sentence if no command applies.
pub fn describe(suggestion: &Suggestion) -> String {
    match suggestion {
        Suggestion::ListSessions => "`hfs session list --all` shows every session".into(),
        Suggestion::ListCheckpoints => "`hfs checkpoint list SESSION` shows the session's checkpoints".into(),
        Suggestion::ListBranches => "`hfs branch list SESSION` shows the session's branches".into(),
        Suggestion::ListRuns => "`hfs run list SESSION` shows the session's runs".into(),
        Suggestion::LengthenId => "type more of the id".into(),
        Suggestion::ReloadOrFork => {
            "load the session again to see what was added, or fork it and send the message there".into()
        }
        Suggestion::WaitOrFork => "wait for that reply, or fork the session".into(),
        Suggestion::NameWritableStore => {
            "hfs writes to a store and creates files beside it, also to read it; name one where it can: \
             --store sqlite:PATH, or `hfs config set store.url sqlite:PATH`"
                .into()
        }
        Suggestion::RepairStore => {
            "`hfs store repair` recovers everything that is readable, and keeps the damaged store".into()
        }
        Suggestion::UpdateForStore => "update hfs; the store was not changed".into(),
        Suggestion::UpdateOrRepairStore => {
            "update hfs; if no newer hfs has used this store, its first page is damaged: hfs store repair"
                .into()
        }
        Suggestion::UpdateForDocument => "update hfs, or export again with the older version".into(),
        Suggestion::SendAgainLater => {
            "your message is saved; send it again when the provider is available".into()
        }
        Suggestion::SendAgainAtACost => {
            "your message is saved; to ask again, send it again, which the server may charge for a second time".into()
        }
        Suggestion::SetApiKey { provider, variable: Some(variable) } => {
            format!("set {variable} in the environment to a key of {provider}")
        }
        Suggestion::SetApiKey { provider, variable: None } => {
            format!("see the documentation of {provider} for how to authenticate")
        }
        Suggestion::CheckBilling { provider } => format!("see the plan and billing of {provider}"),
        Suggestion::RaiseMaxTokens => {
            "send \"continue\", or raise the maximum: `hfs config set max_tokens NUMBER`".into()
        }
        Suggestion::RephraseMessage => "ask in other words, or another model with --model".into(),
        Suggestion::ReduceContext => {
            "`hfs compact @` (in the app: /compact) summarizes the conversation; if the model's context is known, set it: \
             `hfs config set context_tokens NUMBER`"
                .into()
        }
        Suggestion::CheckBaseUrl => "check base_url: `hfs doctor` asks the server for its models".into(),
        Suggestion::CheckModel => {
            "choose another: `hfs doctor` (in the app: /model) lists the server's models, `hfs config set model NAME` uses one"
                .into()
        }
        Suggestion::TrustCertificate => {
            "if you trust the server, set SSL_CERT_FILE to a PEM file with its certificate".into()
        }
        Suggestion::AllowInProxy { host } => format!(
            "ask the administrator of the proxy to let {host} through, or add {host} to the variable NO_PROXY to reach it directly"
        ),
        Suggestion::RaiseTimeout(stage) => {
            let key = match stage {
                WaitStage::Connection => "wait.connect_seconds",
                WaitStage::FirstToken => "wait.first_token_seconds",
                WaitStage::NextToken => "wait.between_tokens_seconds",
            };
            format!("to wait longer: `hfs config set {key} SECONDS`")
        }
        Suggestion::ShowRun => "`hfs run show @` shows what failed; send the message again later".into(),
        Suggestion::NameFormat => {
            "set the format with --format if you know it; `hfs import --help` lists the formats".into()
        }
        Suggestion::ImportPurged => "to import it again, name the file: hfs import --full FILE".into(),
        Suggestion::ConvertTranscript { tool, export } => {
            let export = export.as_ref().map(|export| format!("in {tool}, {export}; "));
            format!(
                "{}hfs imports JSON arrays of messages with `role` and `content`, so convert the conversations to those",
                export.unwrap_or_default()
            )
        }
        Suggestion::RepeatImport => "run the same import again to finish it".into(),
        Suggestion::RestoreSession(session) => {
            format!("restore it with: hfs session restore {}", session.short().shown())
        }
        Suggestion::TrashSession(session) => {
            format!("`hfs session delete {}` moves it to the trash", session.short().shown())
        }
        Suggestion::EnterPrompt => "type a message: hfs chat \"...\"".into(),
        Suggestion::ChangeMessageOrDisablePlugin { plugin } => {
            format!("change the message, or disable the plugin: hfs plugin disable {plugin}")
        }
        Suggestion::ListPlugins => "`hfs plugin list` shows all plugins".into(),
        Suggestion::ReviewPlugin { plugin } => format!(
            "`hfs plugin show {plugin}` shows what it may do, `hfs plugin approve {plugin}` lets it run"
        ),
        Suggestion::ApprovePlugin { plugin } => format!("`hfs plugin approve {plugin}` lets it run"),
        Suggestion::EnablePlugin { plugin } => format!("`hfs plugin enable {plugin}` lets it run again"),
        Suggestion::ShowPluginLog { plugin } => format!("`hfs plugin logs {plugin}` shows what it logged"),
        Suggestion::CheckAgent { agent } => format!("`hfs agents check {agent}` says what is wrong"),
        Suggestion::ReadAgentLog { agent } => format!(
            "its log is logs/agent-{agent}.log in the home directory of hfs; `hfs agents check {agent}` starts it alone"
        ),
        Suggestion::UseChatCommand => {
            "without a terminal, `hfs chat \"...\"` sends a message and prints the reply".into()
        }
    }
}
