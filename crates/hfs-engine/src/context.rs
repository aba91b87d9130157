//! Which messages of a branch an agent is given.

use std::collections::HashSet;

use hfs_core::{
    BranchId, ContextLimit, ContextUpdate, Message, MessageFlag, MessageRange, Part, Seq, Store, StoreResult,
};

/// Number of messages in one read.
const PAGE: u32 = 100;

/// How far before the oldest message that fits a summary is looked for. A branch with more messages after its newest
/// summary is read as if it had none.
const SUMMARY_SEARCH: u64 = 1_000;

/// What an agent can be given.
#[derive(Debug, Clone)]
pub struct ContextBudget {
    /// Name of the agent.
    pub agent: String,
    /// Model, if the agent uses one.
    pub model: Option<String>,
    /// The model's limit, if it is known.
    pub limit: Option<ContextLimit>,
    /// Limit in characters of searchable text, if that of the model is not known.
    pub chars: usize,
    /// Estimated tokens and characters of a message that is not stored yet and follows the history, if there is one.
    pub next_message: Option<(u64, usize)>,
}

/// The history for an agent, and what is left out of it.
#[derive(Debug, Clone)]
pub struct AgentContext {
    /// The newest summary of the branch, if it has one, and the newest messages after it that fit, oldest first.
    pub messages: Vec<Message>,
    pub update: ContextUpdate,
}

impl AgentContext {
    /// The history of a conversation without messages.
    pub fn empty(budget: &ContextBudget) -> Self {
        let update = ContextUpdate {
            model: budget.model.clone(),
            tokens: budget.next_message.map_or(0, |(tokens, _)| tokens),
            limit: budget.limit,
            left_out: 0,
            left_out_tokens: 0,
        };
        Self { messages: Vec::new(), update }
    }

    /// The tokens that the whole history would have, including what is left out.
    pub const fn whole_tokens(&self) -> u64 {
        self.update.tokens.saturating_add(self.update.left_out_tokens)
    }
}

/// A message with its size.
struct Sized {
    message: Message,
    tokens: u64,
    chars: usize,
}

impl Sized {
    fn is_summary(&self) -> bool {
        self.message.content.has_flag(MessageFlag::CompactSummary)
    }
}

/// Reads the history of a branch up to and including `last`. A summary replaces all messages before it. The newest
/// message is part of the result whatever its size.
pub fn read_context(
    store: &dyn Store,
    branch: BranchId,
    last: Seq,
    budget: &ContextBudget,
) -> StoreResult<AgentContext> {
    let (next_tokens, next_chars) = budget.next_message.unwrap_or_default();
    let room = budget.limit.map(|limit| limit.for_conversation().saturating_sub(next_tokens));
    let room_chars = budget.chars.saturating_sub(next_chars);
    let (newest_first, is_whole) = read_candidates(store, branch, last, room, room_chars)?;
    let scale = scale(&newest_first, is_whole, budget);
    let scaled = |tokens: u64| tokens.saturating_mul(scale) / SCALE_UNIT;

    let summary = newest_first.last().filter(|oldest| oldest.is_summary());
    let summary_size = summary.map_or((0, 0), |summary| (scaled(summary.tokens), summary.chars));
    let mut tokens = summary_size.0;
    let mut chars = summary_size.1;
    let mut fitting = 0;
    for (index, candidate) in newest_first.iter().enumerate() {
        if candidate.is_summary() {
            break;
        }
        let (with_tokens, with_chars) = (tokens + scaled(candidate.tokens), chars + candidate.chars);
        let fits = match room {
            Some(room) => with_tokens <= room,
            None => with_chars <= room_chars,
        };
        // Without a next message, the newest stored message is the one to answer.
        let is_required = index == 0 && budget.next_message.is_none();
        if !fits && !is_required {
            break;
        }
        (tokens, chars, fitting) = (with_tokens, with_chars, index + 1);
    }

    let skipped = newest_first.iter().skip(fitting).filter(|candidate| !candidate.is_summary());
    let left_out_tokens = skipped.clone().map(|candidate| scaled(candidate.tokens)).sum();
    let left_out = match skipped.clone().next() {
        None => 0,
        // Without a summary, all messages before are left out, whether they were read or not.
        Some(newest) if summary.is_none() => newest.message.seq,
        Some(_) => u64::try_from(skipped.count()).unwrap_or(u64::MAX),
    };
    let update = ContextUpdate {
        model: budget.model.clone(),
        tokens: tokens.saturating_add(next_tokens),
        limit: budget.limit,
        left_out,
        left_out_tokens,
    };
    let mut candidates = newest_first;
    let summary = candidates.pop_if(|oldest| oldest.is_summary());
    candidates.truncate(fitting);
    let messages = summary.into_iter().chain(candidates.into_iter().rev()).map(|sized| sized.message);
    Ok(AgentContext { messages: without_open_calls(messages.collect()), update })
}

/// Leaves out tool calls without a result, which models refuse: of a turn that was stopped, or that a rewind has cut.
fn without_open_calls(mut messages: Vec<Message>) -> Vec<Message> {
    let results: HashSet<String> = messages
        .iter()
        .flat_map(|message| &message.content.parts)
        .filter_map(|part| match part {
            Part::ToolResult { id, .. } => Some(id.clone()),
            _ => None,
        })
        .collect();
    let is_open = |part: &Part| match part {
        // Calls without an id cannot be matched with their results.
        Part::ToolCall { id, .. } => !id.is_empty() && !results.contains(id),
        _ => false,
    };
    messages.retain_mut(|message| {
        let parts = &mut message.content.parts;
        if !parts.iter().any(is_open) {
            return true;
        }
        parts.retain(|part| !is_open(part));
        !parts.is_empty()
    });
    messages
}

/// The messages that may fit, newest first, down to the newest summary, and beyond them as far as a summary is looked
/// for. Also returns whether they begin with a summary or the first message.
fn read_candidates(
    store: &dyn Store,
    branch: BranchId,
    last: Seq,
    room: Option<u64>,
    room_chars: usize,
) -> StoreResult<(Vec<Sized>, bool)> {
    let mut newest_first: Vec<Sized> = Vec::new();
    let (mut tokens, mut chars, mut beyond) = (0_u64, 0_usize, 0_u64);
    let mut before = last + 1;
    while before > 1 {
        let page = store.read_messages(branch, MessageRange::Before(before, PAGE))?;
        let Some(first) = page.first() else { break };
        before = first.seq;
        for message in page.into_iter().rev() {
            let sized = Sized {
                tokens: message.content.estimated_tokens(),
                chars: message.content.searchable_text().chars().count(),
                message,
            };
            tokens = tokens.saturating_add(sized.tokens);
            chars = chars.saturating_add(sized.chars);
            // `scale` may lower the estimate to 65 %; half is a safe bound.
            let may_fit = room.map_or(chars <= room_chars, |room| tokens / 2 <= room);
            let is_summary = sized.is_summary();
            newest_first.push(sized);
            if is_summary {
                return Ok((newest_first, true));
            }
            if !may_fit {
                beyond += 1;
                if beyond > SUMMARY_SEARCH {
                    return Ok((newest_first, false));
                }
            }
        }
    }
    Ok((newest_first, true))
}

/// The unit of [`scale`].
const SCALE_UNIT: u64 = 1_000;

/// How many tokens an estimated token stands for, in thousandths: from the server's count of the newest reply of the same
/// agent and model, if the conversation up to that reply is known.
fn scale(newest_first: &[Sized], is_whole: bool, budget: &ContextBudget) -> u64 {
    /// Below, something was left out of the counted request.
    const MIN: u64 = 650;
    const MAX: u64 = 1_500;
    let counted = newest_first.iter().enumerate().find_map(|(index, candidate)| {
        let content = &candidate.message.content;
        let is_own = content.is_reply_of_model()
            && content.agent.as_ref() == Some(&budget.agent)
            && content.model == budget.model;
        let usage = content.usage.filter(|_| is_own)?;
        let estimate: u64 = newest_first.iter().skip(index).map(|older| older.tokens).sum();
        usage.total().saturating_mul(SCALE_UNIT).checked_div(estimate)
    });
    counted.filter(|_| is_whole).map_or(SCALE_UNIT, |scale| scale.clamp(MIN, MAX))
}
