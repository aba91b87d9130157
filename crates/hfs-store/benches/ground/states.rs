//! Checkpoint states that change as those of real runs do: one or two parts in a hundred from each to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{
    AgentMemory, AgentNode, AgentStatus, CheckpointDraft, CheckpointId, CheckpointState, ClaimDecision,
    Contest, PhaseSpan, PluginStates, Position, Role, RunSnapshot, Section, SectionStatus, TokenCount,
    TriadNode, Usage,
};

use super::{Dice, text, time, word};

/// How many agents a state has, in triads.
const AGENTS: usize = 18;

/// What a sequence of states is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Run snapshots, with a fifth of their bytes in what agents remember.
    Snapshot,
    /// What agents remember, in texts as long as messages.
    Prose,
}

/// States without end, of about `bytes` bytes of JSON each.
#[derive(Debug, Clone)]
pub struct States {
    dice: Dice,
    sections: Vec<Section>,
    memories: Vec<Vec<Value>>,
    /// How many entries an agent remembers at most: states that grew with each would be others by the time that a
    /// measurement is repeated.
    longest: usize,
    /// When each agent last did something.
    worked: Vec<usize>,
    step: usize,
}

impl States {
    pub fn new(shape: Shape, seed: u64, bytes: usize) -> Self {
        let mut dice = Dice::new(seed);
        let prose = if shape == Shape::Prose { bytes } else { bytes / 5 };
        let memories = vec![Vec::new(); AGENTS];
        let mut states = Self {
            dice: dice.clone(),
            sections: Vec::new(),
            memories,
            longest: 0,
            worked: vec![1; AGENTS],
            step: 1,
        };
        let mut size = serde_json::to_string(&states.state()).unwrap().len();
        let mut said = 0;
        for agent in (0..AGENTS).cycle() {
            if said >= prose {
                break;
            }
            let entry = entry(&mut dice, shape);
            said += entry.text.len() + 40;
            states.memories[agent].push(entry);
        }
        states.longest = states.memories.iter().map(Vec::len).max().unwrap_or(0) + 3;
        size += said;
        while shape == Shape::Snapshot && size < bytes {
            let section = section(&mut dice, states.sections.len());
            size += serde_json::to_string(&section).unwrap().len();
            states.sections.push(section);
        }
        states.dice = dice;
        states
    }

    /// The state after the last.
    pub fn another(&mut self) -> CheckpointState {
        let dice = &mut self.dice;
        // One in a hundred.
        let changes =
            |dice: &mut Dice, all: usize| all / 100 + usize::from(dice.below(100) < all as u64 % 100);
        for _ in 0..changes(dice, self.sections.len()) {
            let place = usize::try_from(dice.below(self.sections.len() as u64)).unwrap();
            self.sections[place] = section(dice, place);
        }
        let shape = if self.sections.is_empty() { Shape::Prose } else { Shape::Snapshot };
        let entries: usize = self.memories.iter().map(Vec::len).sum();
        for _ in 0..changes(dice, entries) {
            let agent = usize::try_from(dice.below(AGENTS as u64)).unwrap();
            self.worked[agent] = self.step;
            // Memories grow at their end; one that grew too long forgets its beginning.
            self.memories[agent].push(entry(dice, shape));
            if self.memories[agent].len() > self.longest {
                self.memories[agent].remove(0);
            }
        }
        self.step += 1;
        self.worked[self.step % AGENTS] = self.step;
        self.state()
    }

    fn state(&self) -> CheckpointState {
        let names: Vec<String> = (0..AGENTS).map(|n| format!("triad-{}/agent-{}", n / 3, n % 3)).collect();
        let agents: BTreeMap<String, AgentMemory> = names
            .iter()
            .cloned()
            .zip(self.memories.iter().map(|memory| AgentMemory::new(memory).unwrap()))
            .collect();
        let mut snapshot = RunSnapshot::default();
        let node = |(name, worked): (&String, &usize)| AgentNode {
            agent_id: name.clone(),
            role: "critic".into(),
            status: AgentStatus::Working,
            model: Some("some-model-20260201".into()),
            started_at: Some(time(1)),
            ended_at: Some(time(*worked)),
        };
        snapshot.agent_tree.triads = names
            .chunks(3)
            .zip(self.worked.chunks(3))
            .map(|(triad, worked)| TriadNode {
                triad_id: triad[0].clone(),
                preset: "dialectic".into(),
                agents: triad.iter().zip(worked).map(node).collect(),
                lost: Vec::new(),
            })
            .collect();
        snapshot.negotiation.sections.clone_from(&self.sections);
        snapshot.negotiation.round = u32::try_from(self.step).unwrap();
        let count = |n: usize| {
            let usage = Usage { prompt_tokens: (n * 997) as u64, completion_tokens: (n * 131) as u64 };
            TokenCount { usage, calls: n as u64 }
        };
        snapshot.usage.by_agent =
            names.iter().zip(&self.worked).map(|(name, worked)| (name.clone(), count(*worked))).collect();
        snapshot.usage.total_tokens = 1000 * self.step as u64;
        snapshot.timeline.phases = (0..5)
            .map(|n| PhaseSpan {
                name: format!("phase {n}"),
                start: time(n),
                end: Some(time(n + 1)),
                duration_ms: Some(1000),
            })
            .collect();
        CheckpointState { run_snapshot: Arc::new(snapshot), agents, plugins: PluginStates::new() }
    }
}

fn entry(dice: &mut Dice, shape: Shape) -> Value {
    let mut text = text(dice);
    if shape == Shape::Snapshot {
        text.truncate(400);
    }
    serde_json::json!({"role": "assistant", "text": text})
}

fn section(dice: &mut Dice, number: usize) -> Section {
    let name = |dice: &mut Dice| format!("triad-{}", dice.below(6));
    let contest = |dice: &mut Dice, round: u32| {
        let claimants: Vec<String> = (0..3).map(|_| name(dice)).collect();
        let decide = |claimant: &String, dice: &mut Dice| {
            let decision = [ClaimDecision::Concede, ClaimDecision::Revise, ClaimDecision::Hold];
            (claimant.clone(), decision[usize::try_from(dice.below(3)).unwrap()])
        };
        let decisions = claimants.iter().map(|claimant| decide(claimant, dice)).collect();
        Contest { round, temperature: dice.unit(), claimants, decisions }
    };
    Section {
        name: format!("{} {} {number}", word(dice), word(dice)),
        status: SectionStatus::Contested,
        owners: vec![name(dice)],
        claimants: (0..3).map(|_| name(dice)).collect(),
        contests: (1..4).map(|round| contest(dice, round)).collect(),
        arbiter: None,
    }
}

pub fn checkpoint(at: Position, n: usize, state: CheckpointState) -> CheckpointDraft {
    CheckpointDraft {
        id: CheckpointId::generate(),
        branch: at.branch,
        seq: at.head,
        trigger: "run.ended".into(),
        label: None,
        pinned: false,
        created_at: time(n),
        state,
    }
}
