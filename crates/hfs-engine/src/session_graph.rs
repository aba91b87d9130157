//! Relations between the branches of a session: their shared history, and the graph that front ends draw.

use std::collections::{BTreeSet, HashMap};

use hfs_core::{Branch, BranchId, Checkpoint, Seq};

/// Ancestry of the branches of one session.
pub struct Lineage<'a> {
    by_id: HashMap<BranchId, &'a Branch>,
}

impl<'a> Lineage<'a> {
    /// Indexes all branches of a session.
    #[must_use]
    pub fn new(branches: &'a [Branch]) -> Self {
        Self { by_id: branches.iter().map(|branch| (branch.id, branch)).collect() }
    }

    /// The branch with this id.
    #[must_use]
    pub fn get(&self, id: BranchId) -> Option<&'a Branch> {
        self.by_id.get(&id).copied()
    }

    /// The branch that stores message number `seq` of `branch`'s history: the branch itself or an ancestor.
    #[must_use]
    pub fn owner(&self, branch: &'a Branch, seq: Seq) -> &'a Branch {
        let mut owner = branch;
        while seq <= owner.forked_at
            && let Some(parent) = owner.parent.and_then(|parent| self.get(parent))
        {
            owner = parent;
        }
        owner
    }

    /// The path from the first branch to `branch`. Each ancestor has the last seq that `branch` shares with it;
    /// `branch` itself has its head.
    fn path(&self, branch: &'a Branch) -> Vec<(BranchId, Seq)> {
        let mut path = vec![(branch.id, branch.head)];
        let (mut child, mut limit) = (branch, branch.head);
        while let Some(parent) = child.parent.and_then(|parent| self.get(parent)) {
            limit = limit.min(child.forked_at);
            path.push((parent.id, limit));
            child = parent;
        }
        path.reverse();
        path
    }

    /// Seq of the last message that both branches share; 0 if there is none.
    #[must_use]
    pub fn shared(&self, a: &'a Branch, b: &'a Branch) -> Seq {
        let (path_a, path_b) = (self.path(a), self.path(b));
        let common = path_a.iter().zip(&path_b).take_while(|(a, b)| a.0 == b.0);
        common.last().map_or(0, |(a, b)| a.1.min(b.1))
    }

    /// Number of forks between the first branch and this one.
    #[must_use]
    pub fn depth(&self, branch: &'a Branch) -> usize {
        self.path(branch).len() - 1
    }
}

/// Content of a row of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum GraphMark {
    /// The newest message of a branch.
    Head {
        /// Whether the branch is the current one.
        current: bool,
    },
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// The message after which other branches fork from the row's branch.
    Fork,
    /// The position before the first message.
    Beginning,
}

/// A row of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphRow {
    /// The lanes as text. All rows have the same width.
    pub lanes: String,
    /// Branch of the mark.
    pub branch: BranchId,
    /// Seq of the mark.
    pub seq: Seq,
    /// Content of the row.
    pub mark: GraphMark,
}

/// Draws the branches of a session as lanes with the newest messages at the top. Leaves out undone branches without
/// messages of their own ([`Branch::is_listed`]).
///
/// `checkpoints` are ordered from the oldest to the newest.
#[must_use]
pub fn session_graph(branches: &[Branch], current: BranchId, checkpoints: &[Checkpoint]) -> Vec<GraphRow> {
    let lineage = Lineage::new(branches);
    let shown: Vec<&Branch> = branches.iter().filter(|branch| branch.is_listed()).collect();
    let mut graph = GraphBuilder {
        lanes: shown.iter().map(|branch| branch.id).collect(),
        active: BTreeSet::new(),
        rows: Vec::new(),
    };
    // At the same seq, the rows of a branch are drawn above those of its ancestors, because the lane of the branch may
    // end at this seq, in the fork row of an ancestor.
    let mut deepest_first = shown.clone();
    deepest_first.sort_by_key(|branch| std::cmp::Reverse(lineage.depth(branch)));

    let heads = shown.iter().map(|branch| branch.head);
    let forks = shown.iter().map(|branch| branch.forked_at);
    let marked = checkpoints.iter().map(|checkpoint| checkpoint.seq);
    let seqs: BTreeSet<Seq> = heads.chain(forks).chain(marked).collect();
    for seq in seqs.into_iter().rev() {
        for branch in &deepest_first {
            if branch.head == seq {
                graph.push_head(branch, branch.id == current);
            }
            let children = shown.iter().filter(|child| {
                child.parent.is_some() && child.forked_at == seq && lineage.owner(child, seq).id == branch.id
            });
            graph.push_fork(branch, seq, children.map(|child| child.id).collect());
            for checkpoint in checkpoints.iter().rev() {
                if checkpoint.branch == branch.id && checkpoint.seq == seq {
                    let symbol = if checkpoint.pinned { '◆' } else { '●' };
                    let checkpoint = Box::new(checkpoint.clone());
                    graph.push(branch.id, seq, symbol, GraphMark::Checkpoint(checkpoint));
                }
            }
        }
    }
    for branch in shown.iter().filter(|branch| branch.parent.is_none()) {
        graph.push(branch.id, 0, '┴', GraphMark::Beginning);
    }
    graph.rows
}

/// Collects the rows of a graph from the newest to the oldest. Each branch has a lane of its own.
struct GraphBuilder {
    /// Branches in the order of their lanes.
    lanes: Vec<BranchId>,
    /// Lanes that continue in the next row: their head has been drawn, and their fork has not.
    active: BTreeSet<usize>,
    rows: Vec<GraphRow>,
}

impl GraphBuilder {
    fn lane(&self, branch: BranchId) -> usize {
        self.lanes.iter().position(|lane| *lane == branch).unwrap_or(0)
    }

    fn push_head(&mut self, branch: &Branch, current: bool) {
        let lane = self.lane(branch.id);
        self.active.insert(lane);
        self.push(branch.id, branch.head, if current { '@' } else { '○' }, GraphMark::Head { current });
    }

    fn push(&mut self, branch: BranchId, seq: Seq, symbol: char, mark: GraphMark) {
        let marked = self.lane(branch);
        let lanes = self.lane_text(|lane, active| match (lane == marked, active) {
            (true, _) => (symbol, ' '),
            (false, true) => ('│', ' '),
            (false, false) => (' ', ' '),
        });
        self.rows.push(GraphRow { lanes, branch, seq, mark });
    }

    /// Ends the lanes of `children` in the lane of `branch`.
    fn push_fork(&mut self, branch: &Branch, seq: Seq, children: Vec<BranchId>) {
        let joining: BTreeSet<usize> = children.into_iter().map(|child| self.lane(child)).collect();
        let parent = self.lane(branch.id);
        let Some(last) = joining.last().copied() else { return };
        let lanes = self.lane_text(|lane, active| {
            let is_crossed = parent < lane && lane < last;
            let symbol = match (lane == parent, joining.contains(&lane), active) {
                (true, ..) => '├',
                (_, true, _) if lane == last => '╯',
                (_, true, _) => '┴',
                (.., true) if is_crossed => '┼',
                (.., true) => '│',
                _ if is_crossed => '─',
                _ => ' ',
            };
            (symbol, if parent <= lane && lane < last { '─' } else { ' ' })
        });
        self.rows.push(GraphRow { lanes, branch: branch.id, seq, mark: GraphMark::Fork });
        for lane in joining {
            self.active.remove(&lane);
        }
    }

    /// Draws a row. `symbols` returns the symbol of a lane and the symbol between it and the next lane.
    fn lane_text(&self, symbols: impl Fn(usize, bool) -> (char, char)) -> String {
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
    use hfs_core::{CheckpointId, ContentHash, SessionId, StateCost, Timestamp};

    fn branch(name: &str, parent: Option<&Branch>, forked_at: Seq, head: Seq) -> Branch {
        Branch {
            id: BranchId::generate(),
            session: SessionId::generate(),
            name: name.to_owned(),
            parent: parent.map(|parent| parent.id),
            forked_at,
            head,
            created_at: Timestamp::UNIX_EPOCH,
            undone: false,
        }
    }

    fn checkpoint(branch: &Branch, number: u64, seq: Seq, pinned: bool) -> Checkpoint {
        Checkpoint {
            id: CheckpointId::generate(),
            session: branch.session,
            number,
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
                    GraphMark::Head { .. } => "head".to_owned(),
                    GraphMark::Checkpoint(checkpoint) => format!("#{}", checkpoint.number),
                    GraphMark::Fork => "fork".to_owned(),
                    GraphMark::Beginning => "beginning".to_owned(),
                };
                format!("{}{} {} {what}", row.lanes, name(row.branch), row.seq)
            })
            .collect()
    }

    #[test]
    fn a_single_branch_is_a_straight_line() {
        let main = branch("main", None, 0, 4);
        let marks = [checkpoint(&main, 1, 2, true), checkpoint(&main, 7, 4, false)];
        assert_eq!(
            draw(std::slice::from_ref(&main), &main, &marks),
            ["@ main 4 head", "● main 4 #7", "◆ main 2 #1", "┴ main 0 beginning"]
        );
    }

    #[test]
    fn a_branch_forks_from_the_lane_that_stores_its_last_shared_message() {
        let main = branch("main", None, 0, 6);
        let a = branch("a", Some(&main), 4, 8);
        // Forked from `a` at a message that `a` shares with main, so it is drawn as a fork of main.
        let b = branch("b", Some(&a), 2, 3);
        let c = branch("c", Some(&a), 6, 6);
        let marks = [checkpoint(&main, 1, 4, false), checkpoint(&a, 2, 6, false)];
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
    fn undone_branches_are_drawn_if_they_have_messages() {
        let main = branch("main", None, 0, 2);
        let empty = Branch { undone: true, ..branch("empty", Some(&main), 2, 2) };
        let said = Branch { undone: true, ..branch("said", Some(&main), 1, 3) };
        let all = [main, empty, said];
        assert_eq!(
            draw(&all, &all[0], &[]),
            ["  ○ said 3 head", "@ │ main 2 head", "├─╯ main 1 fork", "┴   main 0 beginning"]
        );
    }

    #[test]
    fn two_branches_share_the_messages_up_to_the_earlier_fork() {
        let main = branch("main", None, 0, 10);
        let a = branch("a", Some(&main), 6, 9);
        let b = branch("b", Some(&a), 8, 12);
        let c = branch("c", Some(&a), 4, 5);
        let all = [main, a, b, c];
        let lineage = Lineage::new(&all);
        let [main, a, b, c] = &all;
        for (x, y, shared) in [(main, a, 6), (main, b, 6), (a, b, 8), (b, c, 4), (main, c, 4), (a, a, 9)] {
            assert_eq!(lineage.shared(x, y), shared, "{} {}", x.name, y.name);
            assert_eq!(lineage.shared(y, x), shared, "{} {}", y.name, x.name);
        }
        assert_eq!(lineage.owner(b, 7).name, "a");
        assert_eq!(lineage.owner(b, 6).name, "main");
        assert_eq!(lineage.owner(c, 4).name, "main");
        assert_eq!(lineage.depth(b), 2);
    }
}
