//! The app with a store in memory and an agent that repeats a fixed text, for experiments and measurements:
//! `cargo run --release -p hfs-tui --example playground -- [MESSAGES] [TOKENS_PER_SECOND] [REPLY_TOKENS]`.
//!
//! If MESSAGES is not 0, the app opens a session with that many messages.

mod no_files;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, BranchId, Clock, CompletedMessage, EventPayload, MessageDraft,
    MessageStore, Part, PassthroughFields, Position, ReplyDelta, Role, RunOutcome, RunRequest, RunSink,
    SessionDraft, SessionId, SessionStore, SystemClock, Usage,
};
use hfs_engine::{Conversation, Engine, Prices};
use hfs_store::MemoryStore;
use hfs_tui::{AppParts, AppSettings, NoPlugins};

use no_files::NoFiles;

/// An agent that repeats the same text at a constant rate.
struct Parrot {
    tokens_per_second: u64,
    tokens: u64,
}

const WORDS: &[&str] = &[
    "Here",
    " is",
    " a",
    " *list*",
    ":\n\n",
    "- one",
    "\n- two",
    " with `code`",
    "\n\n",
    "```rust\n",
    "fn main() {\n",
    "    println!(\"hi\");\n",
    "}\n",
    "```\n\n",
    "| a | b |\n|---|---|\n",
    "| 1 | 2 |\n",
    "\nAnd",
    " on",
    " it",
    " goes.",
    "\n\n",
];

#[async_trait]
impl Agent for Parrot {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("parrot", "repeats the same text")
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        const TICK: Duration = Duration::from_millis(10);
        let mut text = String::new();
        let mut words = WORDS.iter().cycle();
        let mut count = 0;
        sink.event(EventPayload::PhaseStarted { phase: "reply".into() });
        while count < self.tokens {
            // 100 ticks make a second. A tick sends at least one token, so the lowest rate is 100 tokens per second.
            for _ in 0..(self.tokens_per_second / 100).max(1) {
                let word = words.next().copied().unwrap_or_default();
                sink.reply(ReplyDelta::text(word));
                text.push_str(word);
                count += 1;
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = request.cancel.cancelled() => return Err(AgentError::Cancelled),
            }
        }
        sink.event(EventPayload::PhaseEnded { phase: "reply".into(), duration_ms: 0 });
        let usage = Usage::new(10, count);
        let parts = vec![Part::text(text)];
        Ok(RunOutcome::new(CompletedMessage::new(parts).with_usage(Some(usage))))
    }
}

fn create_session(
    store: &MemoryStore,
    messages: u64,
    clock: &dyn Clock,
) -> Result<Conversation, Box<dyn std::error::Error>> {
    let draft = SessionDraft {
        id: SessionId::generate(),
        name: format!("{messages} messages"),
        automatic_name: false,
        project: None,
        created_at: clock.now(),
        origin: None,
        extra: PassthroughFields::new(),
        main_branch: BranchId::generate(),
    };
    store.create_session(&draft)?;
    let mut at = Position { branch: draft.main_branch, head: 0 };
    while at.head < messages {
        let batch: Vec<MessageDraft> = (at.head..messages.min(at.head + 1_000))
            .map(|number| {
                let role = if number % 2 == 0 { Role::User } else { Role::Assistant };
                let mut text = format!("Message {} ", number + 1);
                for word in WORDS {
                    let _ = write!(text, "{word}");
                }
                MessageDraft::new(role, vec![Part::text(text)], clock.now())
            })
            .collect();
        at = store.append(at, &batch)?.position;
    }
    Ok(Conversation::at(draft.id, at))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (messages, tokens_per_second, tokens) = (next(0)?, next(60)?, next(400)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = MemoryStore::new(Arc::clone(&clock));
    let conversation = if messages > 0 {
        create_session(&store, messages, clock.as_ref())?
    } else {
        Conversation::new(None)
    };
    let agent = Arc::new(Parrot { tokens_per_second, tokens });
    let engine = Engine::builder(Arc::new(store), agent).clock(Arc::clone(&clock)).build();
    let parts = AppParts {
        engine,
        clock,
        conversation,
        session_list: None,
        project: None,
        settings: AppSettings { editor: std::env::var("EDITOR").ok(), ..AppSettings::default() },
        suggestion_wording: |suggestion| format!("{suggestion:?}"),
        prices: Prices::UNKNOWN,
        transfer: Arc::new(NoFiles),
        configuration: Arc::new(NoFiles),
        plugins: Arc::new(NoPlugins),
        drafts: Arc::new(NoFiles),
        questions: None,
        warnings: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(hfs_tui::run(parts))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    writeln!(std::io::stdout(), "left {exit:?}")?;
    Ok(())
}
