//! What both kinds of pages show, and in which order.

use hfs_core::{Branch, BranchId, Checkpoint, Message, Role, Seq, Session, Timestamp, Usage};

use super::Shown;
use crate::document::Stamp;
use crate::export::{DocumentSource, ExportError, PAGE};

/// A stretch of a branch's own messages.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub branch: Branch,
    /// The name of the branch it left.
    pub parent: Option<String>,
    /// The last seq that is shown.
    pub until: Seq,
}

/// A session's facts, without its messages.
pub(crate) struct Outline {
    pub session: Session,
    pub branches: Vec<Branch>,
    pub stretches: Vec<Stretch>,
    pub checkpoints: Vec<Checkpoint>,
    pub messages: u64,
    pub usage: Usage,
    pub duration_ms: u64,
}

impl Outline {
    pub(crate) fn of(source: &dyn DocumentSource, shown: Shown) -> Result<Self, ExportError> {
        let session = source.session()?;
        let branches = source.branches()?;
        let stretches = match shown {
            Shown::All => branches.iter().map(|branch| stretch(branch, branch.head, &branches)).collect(),
            Shown::Current => history(session.current_branch, &branches),
            Shown::One(id) => history(id, &branches),
        };
        let checkpoints = source.checkpoints()?;
        let messages = stretches.iter().map(|part| part.until.saturating_sub(part.branch.forked_at)).sum();
        let mut outline = Self {
            session,
            branches,
            stretches,
            checkpoints,
            messages,
            usage: Usage::default(),
            duration_ms: 0,
        };
        outline.tally(source)?;
        Ok(outline)
    }

    /// Sums up what it cost: as the messages say, or, when they say nothing, as the runs do.
    fn tally(&mut self, source: &dyn DocumentSource) -> Result<(), ExportError> {
        let mut usage = Usage::default();
        for stretch in &self.stretches {
            each(source, stretch, &mut |message| {
                usage += message.content.usage.unwrap_or_default();
                Ok(())
            })?;
        }
        let mut of_runs = Usage::default();
        for id in source.runs()? {
            let run = source.run(id)?;
            self.duration_ms += run.snapshot.timeline.total_duration_ms.unwrap_or(0);
            for count in run.snapshot.usage.by_agent.values() {
                of_runs += count.usage;
            }
        }
        self.usage = if usage.total() == 0 { of_runs } else { usage };
        Ok(())
    }

    /// What a page says about the whole: a word, and what it stands for.
    pub(crate) fn facts(&self, stamp: Stamp<'_>) -> Vec<(&'static str, String)> {
        let mut facts =
            vec![("Exported", moment(stamp.exported_at)), ("Messages", self.messages.to_string())];
        let usage = self.usage;
        if usage.total() > 0 {
            let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
            facts.push(("Tokens", format!("{} ({prompt} prompt, {completion} completion)", usage.total())));
        }
        if self.duration_ms > 0 {
            facts.push(("Duration", duration(self.duration_ms)));
        }
        if let Some(project) = &self.session.project {
            facts.push(("Project", project.directory.clone()));
        }
        facts
    }

    /// The checkpoints that stand directly after this message of this branch.
    pub(crate) fn checkpoints_at(
        &self,
        branch: BranchId,
        seq: Seq,
    ) -> impl Iterator<Item = (usize, &Checkpoint)> {
        let all = self.checkpoints.iter().enumerate();
        all.filter(move |(_, checkpoint)| checkpoint.branch == branch && checkpoint.seq == seq)
            .map(|(index, checkpoint)| (index + 1, checkpoint))
    }
}

/// Where a branch left which other one.
pub(crate) fn origin(parent: &str, branch: &Branch, escape: impl Fn(&str) -> String) -> String {
    format!("from {} after message {}", escape(parent), branch.forked_at)
}

/// How a checkpoint of this number is called.
pub(crate) fn mark(number: usize, checkpoint: &Checkpoint, escape: impl Fn(&str) -> String) -> String {
    let label = checkpoint.label.as_deref().map(|label| format!(": {}", escape(label)));
    format!("Checkpoint {number} ({}){}", escape(checkpoint.trigger.as_str()), label.unwrap_or_default())
}

fn stretch(branch: &Branch, until: Seq, all: &[Branch]) -> Stretch {
    let parent = branch.parent.and_then(|parent| all.iter().find(|branch| branch.id == parent));
    Stretch { branch: branch.clone(), parent: parent.map(|parent| parent.name.clone()), until }
}

/// The stretches that make up a branch's whole history, the oldest first.
fn history(id: BranchId, all: &[Branch]) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    let mut next = all.iter().find(|branch| branch.id == id).or_else(|| all.first());
    let mut until = next.map_or(0, |branch| branch.head);
    while let Some(branch) = next {
        if stretches.len() > all.len() {
            break;
        }
        if until > branch.forked_at {
            stretches.push(stretch(branch, until, all));
        }
        until = until.min(branch.forked_at);
        next = branch.parent.and_then(|parent| all.iter().find(|branch| branch.id == parent));
    }
    stretches.reverse();
    stretches
}

/// Visits the messages of a stretch.
pub(crate) fn each(
    source: &dyn DocumentSource,
    stretch: &Stretch,
    visit: &mut dyn FnMut(&Message) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut after = stretch.branch.forked_at;
    while after < stretch.until {
        let page = source.messages(stretch.branch.id, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        for message in page.iter().filter(|message| message.seq <= stretch.until) {
            visit(message)?;
        }
    }
    Ok(())
}

pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::System => "System",
        Role::Tool => "Tool",
    }
}

/// A time for people; whoever reads the page may be anywhere.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A duration for people.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// The serialized name of an enum such as a status.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
