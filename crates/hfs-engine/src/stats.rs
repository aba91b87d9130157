//! Statistics of use: tokens, cost, tool calls, changed files and time, by day, project, agent, model or tool.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use hfs_core::{
    ErrorExt as _, ErrorKind, Message, MessageRange, PageRequest, Part, Role, SessionFilter, SessionId,
    SessionSummary, Store, StoreError, StoreResult, Timestamp, ToolInput, Usage, grouped,
};
use jiff::tz::TimeZone;

/// Number of sessions in one page, and of messages in one read.
const PAGE: u32 = 200;
/// A longer pause between two messages of a session is not counted as time at work.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1000;

/// What the messages of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatsGrouping {
    /// The day on which they were written.
    Day,
    /// The directory in which the agent worked.
    Project,
    /// The agent that replied.
    Agent,
    /// The model that replied.
    Model,
    /// The tool that the session comes from.
    Tool,
}

impl StatsGrouping {
    /// All groupings.
    pub const ALL: [Self; 5] = [Self::Day, Self::Project, Self::Agent, Self::Model, Self::Tool];

    /// Its name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Project => "project",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Tool => "tool",
        }
    }

    /// The group of a message. Agents and models have only replies, so the messages of a user are in none of their groups.
    fn key_of(self, summary: &SessionSummary, message: &Message, zone: &TimeZone) -> Option<GroupKey> {
        let (session, content) = (&summary.session, &message.content);
        let named = |name: &str| GroupKey::Named(name.to_owned());
        let of_reply = |key: GroupKey| (content.role == Role::Assistant).then_some(key);
        match self {
            Self::Day => {
                let day = content.created_at.known().map(|at| at.to_jiff().to_zoned(zone.clone()).date());
                Some(day.map_or(GroupKey::Unknown, |day| GroupKey::Named(day.to_string())))
            }
            Self::Project => {
                let project = session.project.as_ref();
                Some(project.map_or(GroupKey::Unknown, |project| named(&project.directory)))
            }
            Self::Agent => of_reply(named(content.agent.as_deref().unwrap_or_else(|| session.tool()))),
            Self::Model => of_reply(content.model.as_deref().map_or(GroupKey::Unknown, named)),
            Self::Tool => Some(named(session.tool())),
        }
    }
}

/// The value that the messages of a group have in common. The unknown one is ordered last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKey {
    /// A day such as `2026-11-30`, a directory, or a name.
    Named(String),
    /// The messages do not say.
    Unknown,
}

impl GroupKey {
    /// Shown where a message or a transcript says nothing.
    pub const UNKNOWN: &'static str = "unknown";

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Unknown => Self::UNKNOWN,
        }
    }
}

/// The published prices of models.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    /// What a model's tokens cost at a time, in US dollars; `None` if the model's price is not known.
    pub cost: fn(&str, Usage, Timestamp) -> Option<f64>,
    /// The day on which the prices were compared with what providers publish.
    pub checked: &'static str,
}

impl Prices {
    /// No price is known.
    pub const UNKNOWN: Self = Self { cost: |_, _, _| None, checked: "" };
}

/// Use of agents by the messages of a group.
#[derive(Debug, Clone, PartialEq, Default)]
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

impl GroupStats {
    /// The known tokens; `None` if those of no reply are known.
    #[must_use]
    pub fn known_usage(&self) -> Option<Usage> {
        (self.counted > 0).then_some(self.usage)
    }

    /// The known cost in US dollars; `None` if that of no reply is known.
    #[must_use]
    pub fn known_cost(&self) -> Option<f64> {
        (self.priced > 0).then_some(self.cost)
    }

    /// Number of replies whose tokens are not known.
    #[must_use]
    pub const fn uncounted(&self) -> u64 {
        self.replies.saturating_sub(self.counted)
    }

    /// Number of replies with known tokens whose price is not known.
    #[must_use]
    pub const fn unpriced(&self) -> u64 {
        self.counted.saturating_sub(self.priced)
    }

    /// What the numbers leave out, in words.
    #[must_use]
    pub fn omissions(&self) -> Vec<String> {
        let uncounted = count_note(
            self.uncounted(),
            "reply says nothing about its tokens",
            "replies say nothing about their tokens",
        );
        let unpriced = count_note(
            self.unpriced(),
            "reply is of a model without a known price, and not in the cost",
            "replies are of models without a known price, and not in the cost",
        );
        uncounted.into_iter().chain(unpriced).collect()
    }
}

/// The groups of one grouping.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedStats {
    /// What the messages of a group have in common.
    pub grouping: StatsGrouping,
    /// The groups.
    pub groups: BTreeMap<GroupKey, GroupStats>,
    /// All messages of the groups.
    pub total: GroupStats,
}

/// Result of [`collect_stats`].
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// The groups of each grouping of the query, in its order.
    pub groupings: Vec<GroupedStats>,
    /// Number of messages that a later session repeats, which are counted once.
    pub repeated: u64,
    /// Number of messages of unknown time that were left out because a time limit was given.
    pub without_time: u64,
    /// Number of sessions that could not be read whole because of damage.
    pub damaged: u64,
    /// The day on which the prices were compared with what providers publish.
    pub prices_checked: &'static str,
}

impl Stats {
    /// The groups of a grouping; `None` if the query did not ask for it.
    #[must_use]
    pub fn grouped_by(&self, grouping: StatsGrouping) -> Option<&GroupedStats> {
        self.groupings.iter().find(|grouped| grouped.grouping == grouping)
    }

    /// What the numbers of all groups leave out, in words.
    #[must_use]
    pub fn omissions(&self) -> Vec<String> {
        let repeated = count_note(
            self.repeated,
            "reply that a tool copied into another session was counted once",
            "replies that a tool copied into another session were counted once",
        );
        let without_time = count_note(
            self.without_time,
            "message of unknown time was left out",
            "messages of unknown time were left out",
        );
        repeated.into_iter().chain(without_time).collect()
    }
}

/// A number with what it counts; `None` for 0.
fn count_note(count: u64, one: &str, many: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{} {many}", grouped(count))),
    }
}

/// Formats US dollars. A cost below half a cent is not shown as 0.
#[must_use]
pub fn format_dollars(dollars: f64) -> String {
    if dollars > 0.0 && dollars < 0.005 { "<$0.01".to_owned() } else { format!("${dollars:.2}") }
}

/// Formats time at work: `40s`, `5m`, `3h 05m`.
#[must_use]
pub fn format_active_time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h {minutes:02}m"),
    }
}

/// What is counted, and how.
pub struct StatsQuery<'a> {
    /// Only messages of this time or later.
    pub since: Option<Timestamp>,
    /// The sessions.
    pub filter: SessionFilter,
    /// How messages are grouped. All groupings are computed in one pass over the messages.
    pub groupings: &'a [StatsGrouping],
    /// The time zone of days.
    pub zone: TimeZone,
    /// The prices of models.
    pub prices: Prices,
    /// Called with the number of sessions that were read, and of those that will be, which grows while they are counted. If it breaks,
    /// the collection stops.
    pub progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
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

/// The groups of one grouping while messages are added.
struct Grouped {
    grouping: StatsGrouping,
    groups: BTreeMap<GroupKey, Group>,
    total: Group,
}

impl Grouped {
    fn finish(self) -> GroupedStats {
        GroupedStats {
            grouping: self.grouping,
            groups: self.groups.into_iter().map(|(key, group)| (key, group.finish())).collect(),
            total: self.total.finish(),
        }
    }
}

/// The sums while messages are added.
struct Collector<'q> {
    query: StatsQuery<'q>,
    groupings: Vec<Grouped>,
    repeated: u64,
    without_time: u64,
    /// Format, id and time of the replies with tokens.
    seen: HashSet<(String, String, i64)>,
}

impl<'q> Collector<'q> {
    fn new(query: StatsQuery<'q>) -> Self {
        let grouped = |grouping: &StatsGrouping| Grouped {
            grouping: *grouping,
            groups: BTreeMap::new(),
            total: Group::default(),
        };
        let groupings = query.groupings.iter().map(grouped).collect();
        Self { query, groupings, repeated: 0, without_time: 0, seen: HashSet::new() }
    }

    fn add(&mut self, summary: &SessionSummary, message: &Message) {
        let content = &message.content;
        let at = content.created_at;
        if self.query.since.is_some_and(|since| at < since) {
            self.without_time += u64::from(!at.is_known());
            return;
        }
        if let (Some(source), Some(_), true) = (&content.source, content.usage, at.is_known())
            && !self.seen.insert((source.format.clone(), source.id.clone(), at.as_micros()))
        {
            self.repeated += 1;
            return;
        }
        let tokens = content.usage.zip(content.model.as_deref());
        let cost = tokens.and_then(|(usage, model)| (self.query.prices.cost)(model, usage, at));
        for grouped in &mut self.groupings {
            if let Some(key) = grouped.grouping.key_of(summary, message, &self.query.zone) {
                grouped.groups.entry(key).or_default().add(summary.session.id, message, cost);
                grouped.total.add(summary.session.id, message, cost);
            }
        }
    }
}

/// Counts the messages of all sessions outside of the trash. Messages that branches share are counted once, and so are replies that
/// a tool has copied into another session. Returns `None` if the query's `progress` stopped it.
///
/// # Errors
/// Returns any error of the underlying store. Damage of a session costs that session's unreadable messages only.
pub fn collect_stats(store: &dyn Store, query: StatsQuery<'_>) -> StoreResult<Option<Stats>> {
    let mut collector = Collector::new(query);
    let (since, filter) = (collector.query.since, collector.query.filter.clone());
    let mut sessions = 0;
    let mut damaged = 0;
    let counted = for_each_session(store, &filter, since, &mut |_| {
        sessions += 1;
        match sessions % u64::from(PAGE) {
            0 => Ok((collector.query.progress)(0, sessions)),
            _ => Ok(ControlFlow::Continue(())),
        }
    })?;
    if counted.is_none() {
        return Ok(None);
    }
    let mut read = 0;
    let unlisted = for_each_session(store, &filter, since, &mut |summary| {
        let branches = store.list_branches(summary.session.id);
        let visited = branches.and_then(|branches| {
            for branch in branches {
                let mut next = branch.forked_at + 1;
                while next <= branch.head {
                    // New sessions may have been added since they were counted.
                    if (collector.query.progress)(read, sessions.max(read)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    let messages = store.read_messages(branch.id, MessageRange::From(next, PAGE))?;
                    let Some(last) = messages.last() else { break };
                    next = last.seq + 1;
                    messages.iter().for_each(|message| collector.add(summary, message));
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        read += 1;
        match visited {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damaged += 1;
                Ok(ControlFlow::Continue(()))
            }
            // The session was deleted in the meantime.
            Err(StoreError::NotFound { .. }) => Ok(ControlFlow::Continue(())),
            other => other,
        }
    })?;
    let Some(unlisted) = unlisted else { return Ok(None) };
    let Collector { query, groupings, repeated, without_time, seen: _ } = collector;
    Ok(Some(Stats {
        groupings: groupings.into_iter().map(Grouped::finish).collect(),
        repeated,
        without_time,
        damaged: damaged + unlisted,
        prices_checked: query.prices.checked,
    }))
}

/// Calls `visit` with the sessions that may have messages of `since` or later, those that changed last first. Returns the number of
/// sessions that the store could not list because of damage; `None` if `visit` stopped it.
fn for_each_session(
    store: &dyn Store,
    filter: &SessionFilter,
    since: Option<Timestamp>,
    visit: &mut dyn FnMut(&SessionSummary) -> StoreResult<ControlFlow<()>>,
) -> StoreResult<Option<u64>> {
    let mut request = PageRequest { limit: PAGE, after: None };
    let mut unlisted = 0;
    loop {
        let page = store.list_sessions(filter, &request)?;
        unlisted += page.unreadable;
        for summary in &page.items {
            // The list is ordered by the time of the last change, newest first.
            if since.is_some_and(|since| summary.session.updated_at < since) {
                return Ok(Some(unlisted));
            }
            if visit(summary)?.is_break() {
                return Ok(None);
            }
        }
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(Some(unlisted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hfs_core::{
        BranchDraft, BranchId, BranchStore as _, MessageDraft, MessageId, MessageStore as _, OperationKind,
        PassthroughFields, Position, SessionDraft, SessionStore as _, Source,
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

    const PRICES: Prices = Prices {
        cost: |model, usage, _| (model == "priced").then(|| usage.total() as f64),
        checked: "2026-11-30",
    };

    fn query<'a>(
        groupings: &'a [StatsGrouping],
        since: Option<Timestamp>,
        progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> StatsQuery<'a> {
        let filter = SessionFilter::default();
        StatsQuery { since, filter, groupings, zone: TimeZone::UTC, prices: PRICES, progress }
    }

    fn stats(store: &dyn Store, since: Option<Timestamp>) -> Stats {
        let mut progress = |_, _| ControlFlow::Continue(());
        collect_stats(store, query(&[StatsGrouping::Model], since, &mut progress)).unwrap().unwrap()
    }

    fn by_model<'s>(stats: &'s Stats, model: &str) -> &'s GroupStats {
        &stats.grouped_by(StatsGrouping::Model).unwrap().groups[&GroupKey::Named(model.to_owned())]
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
        let priced = by_model(&stats, "priced");
        assert_eq!((priced.replies, priced.counted, priced.priced, priced.cost), (2, 1, 1, 110.0));
        assert_eq!((priced.usage, priced.usage.uncached_tokens()), (usage, 40));
        assert_eq!(priced.omissions(), ["1 reply says nothing about its tokens"]);
        let other = by_model(&stats, "other");
        assert_eq!((other.known_usage(), other.known_cost()), (Some(Usage::new(5, 5)), None));
        assert_eq!(GroupStats::default().known_usage(), None);
        let total = &stats.grouped_by(StatsGrouping::Model).unwrap().total;
        assert_eq!((total.messages, total.replies, total.sessions), (3, 3, 1));
    }

    #[test]
    fn one_pass_gives_all_groupings_and_what_is_not_known_is_last() {
        let store = store();
        let nameless = MessageDraft { model: None, ..reply("", None, 86_400) };
        let mut timeless = reply("m", None, 0);
        timeless.created_at = Timestamp::UNIX_EPOCH;
        let _ = session(&store, &[MessageDraft::user("hi", at(0)), reply("m", None, 60), nameless, timeless]);
        let mut reported = Vec::new();
        let mut progress = |read, of| {
            reported.push((read, of));
            ControlFlow::Continue(())
        };
        let stats = collect_stats(&store, query(&StatsGrouping::ALL, None, &mut progress)).unwrap().unwrap();
        let keys = |grouping| {
            let groups = &stats.grouped_by(grouping).unwrap().groups;
            groups.iter().map(|(key, group)| (key.as_str(), group.messages)).collect::<Vec<_>>()
        };
        assert_eq!(keys(StatsGrouping::Day), [("2026-09-21", 2), ("2026-09-22", 1), ("unknown", 1)]);
        assert_eq!(keys(StatsGrouping::Model), [("m", 2), ("unknown", 1)]);
        assert_eq!(keys(StatsGrouping::Project), [("unknown", 4)]);
        assert_eq!(keys(StatsGrouping::Agent), [("hfs", 3)]);
        assert_eq!(keys(StatsGrouping::Tool), [("hfs", 4)]);
        assert_eq!(reported, [(0, 1)]);
    }

    #[test]
    fn a_stopped_collection_gives_no_numbers() {
        let store = store();
        let _ = session(&store, &[MessageDraft::user("hi", at(0))]);
        let _ = session(&store, &[MessageDraft::user("hi", at(0))]);
        let mut calls = 0;
        let mut progress = |_, _| {
            calls += 1;
            ControlFlow::Break(())
        };
        let stats = collect_stats(&store, query(&StatsGrouping::ALL, None, &mut progress)).unwrap();
        assert_eq!((stats, calls), (None, 1));
    }

    #[test]
    fn small_costs_and_times_are_not_shown_as_nothing() {
        assert_eq!([0.0, 0.001, 0.005, 12.345].map(format_dollars), ["$0.00", "<$0.01", "$0.01", "$12.35"]);
        let times = [900, 40_000, 300_000, 11_100_000].map(format_active_time);
        assert_eq!(times, ["0s", "40s", "5m", "3h 05m"]);
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
        assert_eq!((by_model(&stats, "m").usage, stats.repeated), (Usage::new(3, 3), 1));
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
        let all = stats(&store, None);
        let all = by_model(&all, "m");
        assert_eq!((all.tool_calls, all.changed_files, all.active_ms), (4, 2, 60_000));
        assert_eq!(by_model(&stats(&store, Some(at(5_000))), "m").changed_files, 1);
    }
}
