//! How branches descend from each other, computed from the list of a session's branches.

use std::collections::HashMap;

use hfs_core::{Branch, BranchId, Seq};

/// The branches of one session by id.
pub struct Lineage<'a> {
    by_id: HashMap<BranchId, &'a Branch>,
}

impl<'a> Lineage<'a> {
    /// The lineage of these branches.
    #[must_use]
    pub fn new(branches: &'a [Branch]) -> Self {
        Self { by_id: branches.iter().map(|branch| (branch.id, branch)).collect() }
    }

    /// The branch itself.
    #[must_use]
    pub fn get(&self, id: BranchId) -> Option<&'a Branch> {
        self.by_id.get(&id).copied()
    }

    /// The branch that really holds what `branch` shows as message number `seq`: itself, or an ancestor.
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

    /// From the root to the branch: each ancestor with the last seq that its descendant shares with it, and
    /// the branch with its own head.
    fn path(&self, branch: &'a Branch) -> Vec<(BranchId, Seq)> {
        let mut path = vec![(branch.id, branch.head)];
        let (mut at, mut limit) = (branch, branch.head);
        while let Some(parent) = at.parent.and_then(|parent| self.get(parent)) {
            limit = limit.min(at.forked_at);
            path.push((parent.id, limit));
            at = parent;
        }
        path.reverse();
        path
    }

    /// The last seq up to which both branches show the very same messages; 0 when they share none.
    #[must_use]
    pub fn shared(&self, a: &'a Branch, b: &'a Branch) -> Seq {
        let (path_a, path_b) = (self.path(a), self.path(b));
        let together = path_a.iter().zip(&path_b).take_while(|(a, b)| a.0 == b.0);
        together.last().map_or(0, |(a, b)| a.1.min(b.1))
    }

    /// How many forks lie between the branch and its root.
    #[must_use]
    pub fn depth(&self, branch: &'a Branch) -> usize {
        self.path(branch).len() - 1
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use hfs_core::{SessionId, Timestamp};

    /// A branch of a made-up session.
    pub fn branch(name: &str, parent: Option<&Branch>, forked_at: Seq, head: Seq) -> Branch {
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

    #[test]
    fn what_two_branches_share_ends_at_the_earlier_fork() {
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
