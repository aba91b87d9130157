//! What an agent is given of a long conversation, and compaction.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, CompletedMessage, ContextLimit, ContextUpdate, LimitSource,
    MessageFlag, MessageRange, MessageStore as _, ModelContext, Part, ReplyDelta, RunOutcome, RunRequest,
    RunSink, Suggestion, Usage,
};
use hfs_engine::{CancellationToken, CompactError, CompactionMode, Conversation, Engine, Settings, Update};
use hfs_store::MemoryStore;

use crate::agent::{Recorded, engine_with_settings, memory_store};

/// An agent whose model has a small context.
struct SmallModel {
    /// What the model can take, in messages of the history.
    refuses_above: Option<usize>,
    /// Known before a request; a refusal sets it.
    limit: Mutex<Option<u64>>,
    /// Set by a refusal.
    limit_in_refusal: u64,
    fails_to_summarize: bool,
    /// The texts of each request, and of each request for a summary.
    runs: Mutex<Vec<Vec<String>>>,
    summaries: Mutex<Vec<Vec<String>>>,
}

impl SmallModel {
    fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            refuses_above: None,
            limit: Mutex::new(limit),
            limit_in_refusal: 0,
            fails_to_summarize: false,
            runs: Mutex::default(),
            summaries: Mutex::default(),
        })
    }

    fn last_run(&self) -> Vec<String> {
        self.runs.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn texts(request: &RunRequest) -> Vec<String> {
    request.history.iter().map(|message| message.content.text()).collect()
}

#[async_trait]
impl Agent for SmallModel {
    fn describe(&self) -> AgentDescription {
        let limit = *self.limit.lock().unwrap();
        let limit = limit.map(|tokens| ContextLimit { tokens, source: LimitSource::Configuration });
        AgentDescription::new("small", "a model with a small context")
            .with_model(Some("m".into()))
            .with_context(limit.map_or(ModelContext::Unknown, ModelContext::Limited))
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        self.runs.lock().unwrap().push(texts(&request));
        if self.refuses_above.is_some_and(|most| request.history.len() > most) {
            *self.limit.lock().unwrap() = Some(self.limit_in_refusal);
            return Err(AgentError::Rejected {
                provider: "test".into(),
                message: "the prompt is too long".into(),
                suggestion: Some(Suggestion::ReduceContext),
            });
        }
        sink.reply(ReplyDelta::text("ok"));
        let message = CompletedMessage::new(vec![Part::text("ok")]);
        Ok(RunOutcome::new(message.with_model(Some("m".into()))))
    }

    async fn summarize(&self, request: RunRequest) -> Result<RunOutcome, AgentError> {
        self.summaries.lock().unwrap().push(texts(&request));
        if self.fails_to_summarize {
            return Err(AgentError::Internal { message: "no summary".into() });
        }
        let count = self.summaries.lock().unwrap().len();
        let message = CompletedMessage::new(vec![Part::text(format!("summary {count}"))]);
        Ok(RunOutcome::new(message.with_usage(Some(Usage::new(10, 2)))))
    }
}

/// A text of about this many estimated tokens, which begins with `name`.
fn long(name: &str, tokens: usize) -> String {
    format!("{name} {}", "x ".repeat(tokens * 3 / 2))
}

struct Chat {
    engine: Engine,
    store: Arc<MemoryStore>,
    conversation: Conversation,
    updates: Arc<Recorded>,
}

impl Chat {
    fn new(agent: Arc<SmallModel>, compaction: CompactionMode) -> Self {
        let store = memory_store();
        let settings = Settings::default().with_compaction(compaction);
        let engine = engine_with_settings(store.clone(), agent, settings);
        Self { engine, store, conversation: Conversation::new(None), updates: Arc::default() }
    }

    async fn send(&mut self, text: &str) -> hfs_engine::Exchange {
        let updates = Arc::clone(&self.updates);
        self.engine.send(&mut self.conversation, text, updates, CancellationToken::new()).await.unwrap()
    }

    async fn compact(&mut self) -> Result<hfs_engine::Compaction, CompactError> {
        let updates = Arc::clone(&self.updates);
        self.engine.compact(&mut self.conversation, updates.as_ref(), CancellationToken::new()).await
    }

    fn stored(&self) -> Vec<String> {
        let messages =
            self.store.read_messages(self.conversation.branch().unwrap(), MessageRange::Newest(100));
        messages.unwrap().iter().map(|message| message.content.text()).collect()
    }
}

fn context_updates(exchange: &hfs_engine::Exchange) -> Vec<ContextUpdate> {
    exchange.run.events.iter().filter_map(|event| ContextUpdate::read(&event.payload)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_says_how_full_the_context_is_and_what_was_left_out() {
    let agent = SmallModel::new(Some(4_000));
    let mut chat = Chat::new(agent.clone(), CompactionMode::Manual);
    let first = context_updates(&chat.send(&long("first", 1_000)).await);
    assert_eq!((first[0].left_out, first[0].limit.unwrap().tokens), (0, 4_000));
    assert!(first[0].tokens > 950 && first[0].tokens < 1_100, "{first:?}");
    chat.send(&long("second", 1_000)).await;
    let third = context_updates(&chat.send(&long("third", 1_500)).await);
    // 3,000 of the 4,000 tokens are for the conversation.
    assert_eq!(third[0].left_out, 1, "{third:?}");
    assert!(third[0].left_out_tokens > 900, "{third:?}");
    assert!(third[0].describe_left_out().unwrap().contains("the context of m has 4,000 tokens"));
    let sent = agent.last_run();
    assert!(sent[1].starts_with("second") && sent.last().unwrap().starts_with("third"), "{}", sent.len());
    assert_eq!(chat.stored().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_fills_the_context_is_summarized_and_stays_stored() {
    let agent = SmallModel::new(Some(4_000));
    let mut chat = Chat::new(agent.clone(), CompactionMode::Automatic);
    chat.send(&long("first", 1_400)).await;
    chat.send(&long("second", 600)).await;
    let exchange = chat.send(&long("third", 900)).await;
    assert_eq!(agent.summaries.lock().unwrap().len(), 1);
    let sent = agent.last_run();
    assert_eq!(sent.len(), 2);
    assert!(sent[0] == "summary 1" && sent[1].starts_with("third"), "{sent:?}");
    assert_eq!(context_updates(&exchange)[0].left_out, 0);
    let stored = chat.stored();
    assert_eq!(stored.len(), 7, "the whole conversation, and the summary");
    assert!(stored[0].starts_with("first") && stored[4] == "summary 1", "{stored:?}");
    let compacted = chat.updates.count(|update| matches!(update, Update::Compacted(_)));
    assert_eq!(compacted, 1);
    let summary = chat.store.read_messages(chat.conversation.branch().unwrap(), MessageRange::From(5, 1));
    let summary = summary.unwrap().remove(0).content;
    assert!(summary.has_flag(MessageFlag::CompactSummary) && summary.is_context());
    assert_eq!(summary.usage.unwrap().prompt_tokens, 10);
}

#[tokio::test(start_paused = true)]
async fn a_rewind_to_a_place_before_the_summary_uses_the_whole_conversation_again() {
    let agent = SmallModel::new(None);
    let mut chat = Chat::new(agent.clone(), CompactionMode::Automatic);
    chat.send("first").await;
    chat.send("second").await;
    let compaction = chat.compact().await.unwrap();
    assert_eq!((compaction.messages, compaction.summary.seq), (4, 5));
    chat.send("third").await;
    assert_eq!(agent.last_run(), ["summary 1", "third"]);
    let branch = chat.conversation.branch().unwrap();
    let forked = chat.engine.fork(branch, 4, None).await.unwrap();
    chat.conversation = chat.engine.resume(forked.session, Some(forked.id)).await.unwrap();
    chat.send("other").await;
    assert_eq!(agent.last_run(), ["first", "ok", "second", "ok", "other"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_summary_includes_the_first_and_only_what_follows_it() {
    let agent = SmallModel::new(None);
    let mut chat = Chat::new(agent.clone(), CompactionMode::Manual);
    chat.send("first").await;
    assert_eq!(chat.compact().await.unwrap().messages, 2);
    assert!(matches!(chat.compact().await, Err(CompactError::TooShort)));
    chat.send("second").await;
    assert_eq!(chat.compact().await.unwrap().messages, 2);
    assert_eq!(agent.summaries.lock().unwrap()[1], ["summary 1", "second", "ok"]);
    chat.send("third").await;
    assert_eq!(agent.last_run(), ["summary 2", "third"]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_longer_than_the_context_is_summarized_in_parts() {
    let agent = SmallModel::new(None);
    let mut chat = Chat::new(agent.clone(), CompactionMode::Manual);
    for name in ["a", "b", "c", "d"] {
        chat.send(&long(name, 1_500)).await;
    }
    *agent.limit.lock().unwrap() = Some(4_000);
    let compaction = chat.compact().await.unwrap();
    assert_eq!(compaction.messages, 8);
    let summaries = agent.summaries.lock().unwrap().clone();
    assert!(summaries.len() > 1, "{}", summaries.len());
    assert_eq!(summaries[1][0], "summary 1");
    let all: Vec<&String> = summaries.iter().flatten().collect();
    for name in ["a ", "b ", "c ", "d "] {
        assert_eq!(all.iter().filter(|text| text.starts_with(name)).count(), 1, "{name}");
    }
    assert_eq!(compaction.summary.content.usage.unwrap().completion_tokens, 2 * summaries.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn if_the_summary_fails_the_message_is_sent_without_the_beginning() {
    let agent =
        SmallModel { fails_to_summarize: true, ..Arc::into_inner(SmallModel::new(Some(4_000))).unwrap() };
    let agent = Arc::new(agent);
    let mut chat = Chat::new(agent.clone(), CompactionMode::Automatic);
    chat.send(&long("first", 1_400)).await;
    chat.send(&long("second", 600)).await;
    let exchange = chat.send(&long("third", 1_200)).await;
    assert!(exchange.failure.is_none());
    assert_eq!(context_updates(&exchange)[0].left_out, 1);
    let failed = chat.updates.count(|update| matches!(update, Update::CompactionFailed { .. }));
    assert_eq!(failed, 1);
    assert_eq!(chat.stored().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_names_the_limit_is_followed_by_a_shorter_request() {
    let agent = SmallModel {
        refuses_above: Some(4),
        limit_in_refusal: 4_000,
        ..Arc::into_inner(SmallModel::new(None)).unwrap()
    };
    let agent = Arc::new(agent);
    let mut chat = Chat::new(agent.clone(), CompactionMode::Manual);
    chat.send(&long("first", 1_400)).await;
    chat.send(&long("second", 1_200)).await;
    let exchange = chat.send(&long("third", 1_200)).await;
    assert!(exchange.failure.is_none(), "{:?}", exchange.failure);
    assert_eq!(agent.runs.lock().unwrap().len(), 4, "the third message is sent twice");
    let updates = context_updates(&exchange);
    assert_eq!(updates.iter().map(|update| update.left_out).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(updates[1].limit.unwrap().tokens, 4_000);
}

#[tokio::test(start_paused = true)]
async fn the_servers_count_corrects_the_estimate() {
    // A model with a coarse tokenizer: the server counts fewer tokens than are estimated.
    struct Counting(Arc<SmallModel>);
    #[async_trait]
    impl Agent for Counting {
        fn describe(&self) -> AgentDescription {
            self.0.describe()
        }
        async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
            let estimate: u64 =
                request.history.iter().map(|message| message.content.estimated_tokens()).sum();
            let usage = Usage::new(estimate * 7 / 10, 1);
            let mut outcome = self.0.run(request, sink).await?;
            outcome.message.usage = Some(usage);
            Ok(outcome)
        }
    }
    let inner = SmallModel::new(Some(4_000));
    let store = memory_store();
    let settings = Settings::default().with_compaction(CompactionMode::Manual);
    let engine = engine_with_settings(store, Arc::new(Counting(Arc::clone(&inner))), settings);
    let mut conversation = Conversation::new(None);
    for name in ["first", "second", "third"] {
        let text = long(name, 1_200);
        let updates = Arc::new(Recorded::default());
        engine.send(&mut conversation, text.as_str(), updates, CancellationToken::new()).await.unwrap();
    }
    // By the estimate alone, 3,600 tokens would not fit into 3,000.
    assert_eq!(inner.last_run().len(), 5);
}
