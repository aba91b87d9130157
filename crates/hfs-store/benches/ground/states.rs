//! Checkpoint states that grow and change as those of real runs do.

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{
    AgentMemory, CheckpointDraft, CheckpointId, CheckpointState, MemoryEntry, Position, Role, RunSnapshot,
};

use super::{Dice, text, time, word};

/// How many agents a state has.
const AGENTS: usize = 9;

/// The `n`-th state of a sequence, of about `bytes` bytes of JSON: what agents remember, of which one or two in a
/// hundred entries change from each to the next, and some are added.
pub fn state(seed: u64, n: usize, bytes: usize) -> CheckpointState {
    let mut agents: Vec<Vec<MemoryEntry>> = vec![Vec::new(); AGENTS];
    let mut dice = Dice::new(seed);
    let mut size = 0;
    let mut agent = 0;
    while size < bytes {
        let entry = MemoryEntry { role: Role::Assistant, text: text(&mut dice) };
        size += entry.text.len() + 40;
        agents[agent % AGENTS].push(entry);
        agent += 1;
    }
    for step in 1..=n {
        let mut dice = Dice::new(seed + 1000 * step as u64);
        // About one in a hundred entries is another, and one in two hundred is new.
        for memory in &mut agents {
            let changes = memory.len() / 100 + usize::from(dice.below(100) < memory.len() as u64 % 100);
            for _ in 0..changes {
                let place = usize::try_from(dice.below(memory.len() as u64)).unwrap();
                memory[place].text = text(&mut dice);
            }
            if dice.below(200) < memory.len() as u64 {
                memory.push(MemoryEntry { role: Role::User, text: text(&mut dice) });
            }
        }
    }
    let agents: BTreeMap<String, AgentMemory> =
        agents.into_iter().enumerate().map(|(n, memory)| (format!("agent-{n}"), Arc::new(memory))).collect();
    let mut run_snapshot = RunSnapshot::default();
    run_snapshot.errors.push(word(&mut Dice::new(n as u64)));
    run_snapshot.usage.total_tokens = 1000 * n as u64;
    CheckpointState { run_snapshot: Arc::new(run_snapshot), agents, plugins: BTreeMap::new() }
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
