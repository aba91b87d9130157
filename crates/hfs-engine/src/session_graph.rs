//! A session's branches and checkpoints as a graph of lanes, newest on top, for every front end to draw.

use std::collections::BTreeSet;

use hfs_core::{Branch, BranchId, Checkpoint, Seq};

use crate::lineage::Lineage;

/// What a row of the graph stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A branch's newest message.
    Head {
        /// Whether the branch is the one that a resume opens.
        current: bool,
    },
    /// A checkpoint; `number` is its place among the session's, 1 being the oldest.
    Checkpoint {
        /// Its place.
        number: usize,
        /// The checkpoint.
        checkpoint: Box<Checkpoint>,
    },
    /// Here other branches leave the row's branch.
    Fork,
    /// Before the first message.
    Beginning,
}

/// A row of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphRow {
    /// The lanes as text, all rows equally wide.
    pub lanes: String,
    /// The branch whose lane the mark is on.
    pub branch: BranchId,
    /// The place on it.
    pub seq: Seq,
    /// What is there.
    pub mark: Mark,
}

/// Draws the branches that are not undone, with these checkpoints (oldest first).
#[must_use]
pub fn session_graph(branches: &[Branch], current: BranchId, checkpoints: &[Checkpoint]) -> Vec<GraphRow> {
    let lineage = Lineage::new(branches);
    let shown: Vec<&Branch> = branches.iter().filter(|branch| !branch.undone).collect();
    let mut painter = Painter {
        lanes: shown.iter().map(|branch| branch.id).collect(),
        active: BTreeSet::new(),
        rows: Vec::new(),
    };
    let mut deepest_first = shown.clone();
    deepest_first.sort_by_key(|branch| std::cmp::Reverse(lineage.depth(branch)));

    let heads = shown.iter().map(|branch| branch.head);
    let forks = shown.iter().map(|branch| branch.forked_at);
    let marked = checkpoints.iter().map(|checkpoint| checkpoint.seq);
    let places: BTreeSet<Seq> = heads.chain(forks).chain(marked).collect();
    for seq in places.into_iter().rev() {
        for branch in &deepest_first {
            if branch.head == seq {
                painter.head(branch, branch.id == current);
            }
            let leaving = shown.iter().filter(|child| {
                child.parent.is_some() && child.forked_at == seq && lineage.owner(child, seq).id == branch.id
            });
            painter.fork(branch, seq, leaving.map(|child| child.id).collect());
            for (index, checkpoint) in checkpoints.iter().enumerate().rev() {
                if checkpoint.branch == branch.id && checkpoint.seq == seq {
                    let mark =
                        Mark::Checkpoint { number: index + 1, checkpoint: Box::new(checkpoint.clone()) };
                    painter.mark(branch.id, seq, if checkpoint.pinned { '◆' } else { '●' }, mark);
                }
            }
        }
    }
    for branch in shown.iter().filter(|branch| branch.parent.is_none()) {
        painter.mark(branch.id, 0, '┴', Mark::Beginning);
    }
    painter.rows
}

/// Puts rows together. Each branch has a lane of its own, in the order of the list.
struct Painter {
    lanes: Vec<BranchId>,
    active: BTreeSet<usize>,
    rows: Vec<GraphRow>,
}

impl Painter {
    fn lane(&self, branch: BranchId) -> usize {
        self.lanes.iter().position(|lane| *lane == branch).unwrap_or(0)
    }

    fn head(&mut self, branch: &Branch, current: bool) {
        let lane = self.lane(branch.id);
        self.active.insert(lane);
        self.mark(branch.id, branch.head, if current { '@' } else { '○' }, Mark::Head { current });
    }

    fn mark(&mut self, branch: BranchId, seq: Seq, symbol: char, mark: Mark) {
        let at = self.lane(branch);
        let lanes = self.paint(|lane, active| match (lane == at, active) {
            (true, _) => (symbol, ' '),
            (false, true) => ('│', ' '),
            (false, false) => (' ', ' '),
        });
        self.rows.push(GraphRow { lanes, branch, seq, mark });
    }

    /// The lanes of `leaving` end here, in the lane of `branch`.
    fn fork(&mut self, branch: &Branch, seq: Seq, leaving: Vec<BranchId>) {
        let joining: BTreeSet<usize> = leaving.into_iter().map(|child| self.lane(child)).collect();
        let at = self.lane(branch.id);
        let Some(last) = joining.last().copied() else { return };
        let lanes = self.paint(|lane, active| {
            let inside = at < lane && lane < last;
            let symbol = match (lane == at, joining.contains(&lane), active) {
                (true, ..) => '├',
                (_, true, _) if lane == last => '╯',
                (_, true, _) => '┴',
                (.., true) if inside => '┼',
                (.., true) => '│',
                _ if inside => '─',
                _ => ' ',
            };
            (symbol, if at <= lane && lane < last { '─' } else { ' ' })
        });
        self.rows.push(GraphRow { lanes, branch: branch.id, seq, mark: Mark::Fork });
        for lane in joining {
            self.active.remove(&lane);
        }
    }

    fn paint(&self, symbols: impl Fn(usize, bool) -> (char, char)) -> String {
        (0..self.lanes.len())
            .flat_map(|lane| {
                let (symbol, gap) = symbols(lane, self.active.contains(&lane));
                [symbol, gap]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::tests::branch;
    use hfs_core::{CheckpointId, ContentHash, StateCost, Timestamp};

    fn checkpoint(branch: &Branch, seq: Seq, pinned: bool) -> Checkpoint {
        Checkpoint {
            id: CheckpointId::generate(),
            session: branch.session,
            branch: branch.id,
            seq,
            trigger: "run.ended".into(),
            label: None,
            pinned,
            created_at: Timestamp::UNIX_EPOCH,
            state_hash: ContentHash::from_bytes([0; 32]),
            cost: StateCost::default(),
        }
    }

    fn draw(branches: &[Branch], current: &Branch, checkpoints: &[Checkpoint]) -> Vec<String> {
        let rows = session_graph(branches, current.id, checkpoints);
        let name =
            |id| branches.iter().find(|branch| branch.id == id).map_or("?", |branch| branch.name.as_str());
        rows.iter()
            .map(|row| {
                let what = match &row.mark {
                    Mark::Head { .. } => "head".to_owned(),
                    Mark::Checkpoint { number, .. } => format!("#{number}"),
                    Mark::Fork => "fork".to_owned(),
                    Mark::Beginning => "beginning".to_owned(),
                };
                format!("{}{} {} {what}", row.lanes, name(row.branch), row.seq)
            })
            .collect()
    }

    #[test]
    fn a_single_branch_is_a_line() {
        let main = branch("main", None, 0, 4);
        let marks = [checkpoint(&main, 2, true), checkpoint(&main, 4, false)];
        assert_eq!(
            draw(std::slice::from_ref(&main), &main, &marks),
            ["@ main 4 head", "● main 4 #2", "◆ main 2 #1", "┴ main 0 beginning"]
        );
    }

    #[test]
    fn branches_leave_the_line_that_holds_their_last_shared_message() {
        let main = branch("main", None, 0, 6);
        let a = branch("a", Some(&main), 4, 8);
        // Forked from `a`, but before `a` itself began: it leaves main.
        let b = branch("b", Some(&a), 2, 3);
        let c = branch("c", Some(&a), 6, 6);
        let marks = [checkpoint(&main, 4, false), checkpoint(&a, 6, false)];
        let all = [main, a, b, c];
        assert_eq!(
            draw(&all, &all[1], &marks),
            [
                "  @     a 8 head",
                "  │   ○ c 6 head",
                "  ├───╯ a 6 fork",
                "  ●     a 6 #2",
                "○ │     main 6 head",
                "├─╯     main 4 fork",
                "●       main 4 #1",
                "│   ○   b 3 head",
                "├───╯   main 2 fork",
                "┴       main 0 beginning",
            ]
        );
    }

    #[test]
    fn retired_branches_are_not_drawn() {
        let main = branch("main", None, 0, 2);
        let gone = Branch { undone: true, ..branch("gone", Some(&main), 1, 5) };
        let all = [main, gone];
        assert_eq!(draw(&all, &all[0], &[]), ["@ main 2 head", "┴ main 0 beginning"]);
    }
}
