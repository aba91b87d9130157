//! Finds the branch, checkpoint or run that the user means by a name, a number, an id or an id prefix.
//!
//! Sessions are resolved by the store, because there are too many to list them.

use std::fmt::Display;

use hfs_core::{Branch, BranchId, Checkpoint, RunId, Seq, ShortId, StoreError};
use hfs_engine::Lineage;

/// The branch with this name, else the one whose id or short id starts with it. Undone branches are found too, since they
/// keep their names.
///
/// # Errors
/// `NotFound`; `Ambiguous` if several ids match.
pub fn find_branch(branches: &[Branch], reference: &str) -> Result<Branch, StoreError> {
    if let Some(branch) = branches.iter().find(|branch| branch.name == reference) {
        return Ok(branch.clone());
    }
    let prefix = reference.to_lowercase();
    let found = branches.iter().filter(|branch| id_matches(branch.id, branch.id.short(), &prefix));
    single("branch", reference, found.cloned().collect(), |branch| branch.name.clone())
}

/// The number of the message that `seq:N` names; `None` for another reference.
///
/// # Errors
/// `NotFound` if N is not a number.
pub fn parse_seq(reference: &str) -> Result<Option<Seq>, StoreError> {
    let Some(seq) = reference.strip_prefix("seq:") else { return Ok(None) };
    let not_found = |_| StoreError::NotFound { what: "message", reference: seq.to_owned() };
    seq.parse().map(Some).map_err(not_found)
}

/// Finds a checkpoint by its number, by position (`seq:N`: the newest checkpoint at message N of the current branch, else
/// of any branch), by label, or by a prefix of its id or short id. `all` starts with the oldest.
///
/// # Errors
/// `NotFound`; `Ambiguous` if several match.
pub fn find_checkpoint(
    all: &[Checkpoint],
    branches: &[Branch],
    current: BranchId,
    reference: &str,
) -> Result<Checkpoint, StoreError> {
    let not_found = || StoreError::NotFound { what: "checkpoint", reference: reference.to_owned() };
    if let Ok(wanted) = reference.parse::<u64>() {
        return all.iter().find(|checkpoint| checkpoint.number == wanted).cloned().ok_or_else(not_found);
    }
    if let Some(seq) = parse_seq(reference)? {
        let lineage = Lineage::new(branches);
        // The branch that the message belongs to: an ancestor if the message precedes the current branch's fork. A
        // checkpoint of the current branch may also have such a seq, if it was created before the first message there.
        let owner = lineage.get(current).map(|branch| lineage.owner(branch, seq).id);
        let at_seq = all.iter().filter(|checkpoint| checkpoint.seq == seq);
        let (on_branch, elsewhere): (Vec<_>, Vec<_>) =
            at_seq.partition(|checkpoint| Some(checkpoint.branch) == owner || checkpoint.branch == current);
        return on_branch.last().or(elsewhere.last()).copied().cloned().ok_or_else(not_found);
    }
    let mut found: Vec<_> =
        all.iter().filter(|checkpoint| checkpoint.label.as_deref() == Some(reference)).collect();
    if found.is_empty() {
        let prefix = reference.to_lowercase();
        let matching =
            all.iter().filter(|checkpoint| id_matches(checkpoint.id, checkpoint.id.short(), &prefix));
        found = matching.collect();
    }
    let describe =
        |checkpoint: &&Checkpoint| format!("{} ({})", checkpoint.number, checkpoint.id.short().shown());
    single("checkpoint", reference, found, describe).cloned()
}

/// Finds a run, and its number, by number (1 = oldest), by recency (`@` is the newest, `@-1` the one before), or by a
/// prefix of its id or short id. `all` starts with the oldest.
///
/// # Errors
/// `NotFound`; `Ambiguous` if several match.
pub fn find_run(all: &[RunId], reference: &str) -> Result<(usize, RunId), StoreError> {
    let not_found = || StoreError::NotFound { what: "run", reference: reference.to_owned() };
    let numbered = || all.iter().enumerate().map(|(index, id)| (index + 1, *id));
    let recency = match reference.strip_prefix('@') {
        Some("") => Some(0),
        Some(back) => back.strip_prefix('-').and_then(|back| back.parse().ok()),
        None => None,
    };
    if let Some(back) = recency {
        return numbered().rev().nth(back).ok_or_else(not_found);
    }
    if let Ok(wanted) = reference.parse::<usize>() {
        return numbered().find(|(number, _)| *number == wanted).ok_or_else(not_found);
    }
    let prefix = reference.to_lowercase();
    let found = numbered().filter(|(_, id)| id_matches(id, id.short(), &prefix)).collect();
    single("run", reference, found, |(number, id)| format!("{number} ({})", id.short().shown()))
}

/// Whether an id or its short form starts with `prefix`, which is in lower case.
fn id_matches(id: impl Display, short: ShortId, prefix: &str) -> bool {
    (ShortId::is_prefix_shaped(prefix) && short.as_str().starts_with(prefix))
        || (!prefix.is_empty() && id.to_string().starts_with(prefix))
}

/// Returns the only match. If there are several, the error lists the result of `describe` for each.
fn single<T>(
    what: &'static str,
    reference: &str,
    mut found: Vec<T>,
    describe: impl Fn(&T) -> String,
) -> Result<T, StoreError> {
    /// An error message lists at most this many matches.
    const MAX_CANDIDATES: usize = 10;
    let reference = reference.to_owned();
    if found.len() > 1 {
        let candidates = found.iter().take(MAX_CANDIDATES).map(describe).collect();
        return Err(StoreError::Ambiguous { what, reference, candidates });
    }
    found.pop().ok_or(StoreError::NotFound { what, reference })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hfs_core::{BranchId, SessionId, Timestamp};

    fn branch(name: &str, undone: bool) -> Branch {
        Branch {
            id: BranchId::generate(),
            session: SessionId::generate(),
            name: name.into(),
            parent: None,
            forked_at: 0,
            head: 0,
            created_at: Timestamp::UNIX_EPOCH,
            undone,
        }
    }

    #[test]
    fn a_branch_is_found_by_name_and_by_id_prefix() {
        let branches = [branch("main", false), branch("main-2", false), branch("gone", true)];
        let [main, second, gone] = &branches;
        assert_eq!(find_branch(&branches, "main").unwrap(), *main);
        assert_eq!(find_branch(&branches, second.id.short().as_str()).unwrap(), *second);
        assert_eq!(find_branch(&branches, &second.id.to_string()).unwrap(), *second);
        assert_eq!(find_branch(&branches, "gone").unwrap(), *gone, "an undone branch");
        assert!(matches!(find_branch(&branches, ""), Err(StoreError::NotFound { .. })));
        // Ids of the same millisecond share a prefix.
        let shared: String = main.id.to_string().chars().take(6).collect();
        assert!(matches!(find_branch(&branches, &shared), Err(StoreError::Ambiguous { .. })));
    }

    fn checkpoint(branch: &Branch, number: u64, seq: Seq, label: Option<&str>) -> Checkpoint {
        Checkpoint {
            id: hfs_core::CheckpointId::generate(),
            session: branch.session,
            number,
            branch: branch.id,
            seq,
            trigger: "run.ended".into(),
            label: label.map(str::to_owned),
            pinned: false,
            created_at: Timestamp::UNIX_EPOCH,
            state_hash: hfs_core::ContentHash::from_bytes([0; 32]),
            cost: hfs_core::StateCost::default(),
        }
    }

    #[test]
    fn a_checkpoint_is_found_by_number_seq_label_and_id() {
        let main = branch("main", false);
        let other = Branch { parent: Some(main.id), forked_at: 4, head: 6, ..branch("other", false) };
        let all = [
            checkpoint(&main, 1, 2, Some("works")),
            checkpoint(&main, 2, 2, None),
            checkpoint(&main, 4, 6, Some("works")),
            checkpoint(&other, 5, 6, None),
        ];
        let branches = [main.clone(), other.clone()];
        let find = |current: &Branch, text: &str| find_checkpoint(&all, &branches, current.id, text);
        let number = |current: &Branch, text: &str| find(current, text).map(|found| found.number).ok();
        assert_eq!(number(&main, "1"), Some(1));
        assert_eq!(number(&main, "3"), None, "the number of a pruned checkpoint");
        assert_eq!(number(&main, "0"), None);
        assert_eq!(number(&main, "seq:2"), Some(2), "the newest one at message 2");
        assert_eq!(number(&main, "seq:6"), Some(4));
        assert_eq!(number(&other, "seq:6"), Some(5));
        assert_eq!(number(&other, "seq:2"), Some(2), "messages before the fork belong to the parent");
        assert_eq!(number(&main, "seq:x"), None);
        assert_eq!(number(&main, all[3].id.short().as_str()), Some(5));
        assert!(matches!(find(&main, "works"), Err(StoreError::Ambiguous { .. })));
    }

    #[test]
    fn a_run_is_found_by_number_recency_and_id() {
        let all: Vec<RunId> = (0..4).map(|_| RunId::generate()).collect();
        let number = |text: &str| find_run(&all, text).map(|(number, _)| number).ok();
        assert_eq!(number("1"), Some(1));
        assert_eq!(number("@"), Some(4));
        assert_eq!(number("@-3"), Some(1));
        for unknown in ["", "0", "5", "@-4", "@x", "@-", "@--1"] {
            assert!(matches!(find_run(&all, unknown), Err(StoreError::NotFound { .. })), "{unknown:?}");
        }
        assert_eq!(number(all[2].short().as_str()), Some(3));
        assert_eq!(number(&all[1].to_string().to_uppercase()), Some(2));
        let shared: String = all[0].to_string().chars().take(6).collect();
        // Six hexadecimal digits may also be a decimal number.
        if shared.parse::<usize>().is_err() {
            assert!(matches!(find_run(&all, &shared), Err(StoreError::Ambiguous { .. })));
        }
        assert!(find_run(&[], "@").is_err());
    }
}
