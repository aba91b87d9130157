//! Statistics of use: tokens, cost, tool calls, changed files and time, in groups that the caller chooses.

use std::collections::{BTreeMap, HashSet};

use hfs_core::{
    ErrorExt as _, ErrorKind, Message, MessageRange, PageRequest, Part, Role, SessionFilter, SessionId,
    SessionSummary, Store, StoreError, StoreResult, Timestamp, ToolInput, Usage,
};

/// Number of sessions in one page, and of messages in one read.
const PAGE: u32 = 200;
/// A longer pause between two messages of a session is not counted as time at work.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1000;

/// Use of agents by the messages of a group.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct GroupStats {
    /// Number of sessions with messages in the group.
    pub sessions: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of agents' messages.
    pub replies: u64,
    /// Number of replies whose tokens are known.
    pub counted: u64,
    /// Tokens of these replies.
    pub usage: Usage,
    /// Number of replies with known tokens whose price is known.
    pub priced: u64,
    /// Cost of these replies in US dollars.
    pub cost: f64,
    /// Number of tool calls.
    pub tool_calls: u64,
    /// Number of different files that tool calls changed.
    pub changed_files: u64,
    /// Time between messages, without pauses of more than five minutes. Messages of unknown time do not count.
    pub active_ms: u64,
}

/// Result of [`collect_stats`].
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Groups by key.
    pub groups: BTreeMap<String, GroupStats>,
    /// All messages of the groups.
    pub total: GroupStats,
    /// Number of messages that a later session repeats, which are counted once.
    pub repeated: u64,
    /// Number of messages of unknown time that were left out because a time limit was given.
    pub without_time: u64,
    /// Number of sessions that could not be read whole because of damage.
    pub damaged: u64,
}

/// What is counted, and how.
pub struct StatsQuery<'a> {
    /// Only messages of this time or later.
    pub since: Option<Timestamp>,
    /// The sessions.
    pub filter: SessionFilter,
    /// The group of a message; `None` leaves it out.
    pub group: &'a dyn Fn(&SessionSummary, &Message) -> Option<String>,
    /// The price of a model's tokens at a time, in US dollars, if it is known.
    pub price: &'a dyn Fn(&str, Usage, Timestamp) -> Option<f64>,
    /// Called with the number of sessions read so far.
    pub progress: &'a mut dyn FnMut(u64),
}

/// A group while messages are added.
#[derive(Default)]
struct Group {
    stats: GroupStats,
    /// The last session that was added. Sessions come one after another.
    session: Option<SessionId>,
    /// Time of the last message of this session, in milliseconds.
    last_ms: Option<i64>,
    files: HashSet<String>,
}

impl Group {
    fn add(&mut self, session: SessionId, message: &Message, price: Option<f64>) {
        let stats = &mut self.stats;
        if self.session.replace(session) != Some(session) {
            stats.sessions += 1;
            self.last_ms = None;
        }
        stats.messages += 1;
        let content = &message.content;
        if content.role == Role::Assistant {
            stats.replies += 1;
            if let Some(usage) = content.usage {
                stats.counted += 1;
                stats.usage += usage;
            }
            if let Some(price) = price {
                stats.priced += 1;
                stats.cost += price;
            }
        }
        for part in &content.parts {
            if let Part::ToolCall { input, .. } = part {
                stats.tool_calls += 1;
                for file in ToolInput::of(input).changed_files() {
                    if !self.files.contains(file) {
                        self.files.insert(file.to_owned());
                    }
                }
            }
        }
        if content.created_at.is_known() {
            let at = content.created_at.as_micros() / 1000;
            let pause = self.last_ms.map_or(0, |last| at.saturating_sub(last).max(0).cast_unsigned());
            if pause <= LONGEST_PAUSE_MS {
                stats.active_ms += pause;
            }
            // Branches are read one after another, and a branch may begin before the last message of another one.
            self.last_ms = Some(at);
        }
    }

    fn finish(mut self) -> GroupStats {
        self.stats.changed_files = self.files.len() as u64;
        self.stats
    }
}

/// Counts the messages of all sessions outside of the trash. Messages that branches share are counted once, and so are replies that
/// a tool has copied into another session.
///
/// # Errors
/// Returns any error of the underlying store. Damage of a session costs that session's unreadable messages only.
pub fn collect_stats(store: &dyn Store, query: StatsQuery<'_>) -> StoreResult<Stats> {
    let StatsQuery { since, filter, group, price, progress } = query;
    let mut stats = Stats::default();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut total = Group::default();
    // Format, id and time of the replies with tokens.
    let mut seen: HashSet<(String, String, i64)> = HashSet::new();
    let mut request = PageRequest { limit: PAGE, after: None };
    let mut read = 0;
    'pages: loop {
        let page = store.list_sessions(&filter, &request)?;
        stats.damaged += page.unreadable;
        for summary in &page.items {
            let id = summary.session.id;
            // The list is ordered by the time of the last change, newest first.
            if since.is_some_and(|since| summary.session.updated_at < since) {
                break 'pages;
            }
            progress(read);
            read += 1;
            let counted = for_each_own_message(store, id, &mut |message| {
                let content = &message.content;
                let at = content.created_at;
                if since.is_some_and(|since| at < since) {
                    stats.without_time += u64::from(!at.is_known());
                    return;
                }
                let Some(key) = group(summary, message) else { return };
                if let (Some(source), Some(_), true) = (&content.source, content.usage, at.is_known())
                    && !seen.insert((source.format.clone(), source.id.clone(), at.as_micros()))
                {
                    stats.repeated += 1;
                    return;
                }
                let tokens = content.usage.zip(content.model.as_deref());
                let cost = tokens.and_then(|(usage, model)| price(model, usage, at));
                groups.entry(key).or_default().add(id, message, cost);
                total.add(id, message, cost);
            });
            match counted {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => stats.damaged += 1,
                // The session was deleted in the meantime.
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match page.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    stats.groups = groups.into_iter().map(|(key, group)| (key, group.finish())).collect();
    stats.total = total.finish();
    Ok(stats)
}

/// Calls `visit` with each message of a session, branch after branch, each where it is stored.
fn for_each_own_message(
    store: &dyn Store,
    session: SessionId,
    visit: &mut dyn FnMut(&Message),
) -> StoreResult<()> {
    for branch in store.list_branches(session)? {
        let mut next = branch.forked_at + 1;
        while next <= branch.head {
            let messages = store.read_messages(branch.id, MessageRange::From(next, PAGE))?;
            let Some(last) = messages.last() else { break };
            next = last.seq + 1;
            messages.iter().for_each(&mut *visit);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hfs_core::{
        BranchDraft, BranchId, BranchStore as _, MAIN_BRANCH, MessageDraft, MessageId, MessageStore as _,
        OperationKind, PassthroughFields, Position, SessionDraft, SessionStore as _, Source,
    };
    use hfs_store::MemoryStore;
    use serde_json::json;
    use testkit::clock::TestClock;

    use super::*;

    fn store() -> MemoryStore {
        MemoryStore::new(Arc::new(TestClock::fixed()))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + seconds * 1000).unwrap()
    }

    fn reply(model: &str, usage: Option<Usage>, seconds: i64) -> MessageDraft {
        let mut reply = MessageDraft::new(Role::Assistant, vec![Part::text("done")], at(seconds));
        reply.model = Some(model.to_owned());
        reply.usage = usage;
        reply
    }

    fn call(input: serde_json::Value) -> Part {
        Part::ToolCall { id: "1".into(), name: "edit".into(), input }
    }

    fn session(store: &MemoryStore, messages: &[MessageDraft]) -> Position {
        let branch = BranchId::generate();
        let draft = SessionDraft {
            id: SessionId::generate(),
            name: "s".into(),
            automatic_name: false,
            project: None,
            created_at: at(0),
            origin: None,
            extra: PassthroughFields::new(),
            main_branch: branch,
        };
        store.create_session(&draft).unwrap();
        store.append(Position { branch, head: 0 }, messages).unwrap().position
    }

    fn stats(store: &dyn Store, since: Option<Timestamp>) -> Stats {
        let query = StatsQuery {
            since,
            filter: SessionFilter::default(),
            group: &|_, message| Some(message.content.model.clone().unwrap_or_default()),
            price: &|model, usage, _| (model == "priced").then(|| usage.total() as f64),
            progress: &mut |_| {},
        };
        collect_stats(store, query).unwrap()
    }

    #[test]
    fn unknown_tokens_and_prices_are_counted_apart() {
        let store = store();
        let usage = Usage::new(100, 10).with_cache(Some(60), None);
        let _ = session(
            &store,
            &[
                MessageDraft::user("hi", at(0)),
                reply("priced", Some(usage), 10),
                reply("priced", None, 20),
                reply("other", Some(Usage::new(5, 5)), 30),
            ],
        );
        let stats = stats(&store, None);
        let priced = &stats.groups["priced"];
        assert_eq!((priced.replies, priced.counted, priced.priced, priced.cost), (2, 1, 1, 110.0));
        assert_eq!((priced.usage, priced.usage.uncached_tokens()), (usage, 40));
        let other = &stats.groups["other"];
        assert_eq!((other.counted, other.priced, other.usage.cache_read_tokens), (1, 0, None));
        assert_eq!((stats.total.messages, stats.total.replies, stats.total.sessions), (4, 3, 1));
    }

    #[test]
    fn messages_that_branches_share_or_that_a_tool_copied_are_counted_once() {
        let store = store();
        let mut copied = reply("m", Some(Usage::new(1, 1)), 10);
        copied.source = Some(Source { format: "claude-code".into(), id: "a".into() });
        let position = session(&store, &[MessageDraft::user("hi", at(0)), copied.clone()]);
        let fork = BranchDraft {
            id: BranchId::generate(),
            name: "fork".into(),
            parent: position.branch,
            forked_at: 1,
        };
        store.create_branch(&fork, OperationKind::Fork, None, at(1)).unwrap();
        store
            .append(Position { branch: fork.id, head: 1 }, &[reply("m", Some(Usage::new(2, 2)), 40)])
            .unwrap();
        copied.id = MessageId::generate();
        let _ = session(&store, &[copied]);
        let stats = stats(&store, None);
        assert_eq!((stats.groups["m"].usage, stats.repeated), (Usage::new(3, 3), 1));
        assert!(!stats.groups.contains_key(MAIN_BRANCH));
    }

    #[test]
    fn changed_files_are_counted_once_and_long_pauses_are_no_work() {
        let store = store();
        let mut edits = reply("m", None, 60);
        let edit = json!({"file_path": "a.rs", "old_string": "x", "new_string": "y"});
        edits.parts = vec![call(edit.clone()), call(edit), call(json!({"command": "ls"}))];
        let mut late = reply("m", None, 10_000);
        late.parts = vec![call(json!({"file_path": "b.rs", "content": "z"}))];
        let _ = session(&store, &[reply("m", None, 0), edits, late]);
        let all = stats(&store, None).total;
        assert_eq!((all.tool_calls, all.changed_files, all.active_ms), (4, 2, 60_000));
        assert_eq!(stats(&store, Some(at(5_000))).total.changed_files, 1);
    }
}
