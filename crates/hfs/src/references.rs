//! What people mean by what they type.

use hfs_core::{Branch, BranchId, Checkpoint, RunId, Seq, ShortId, StoreError};
use hfs_engine::Lineage;

/// The branch with this name, else the one whose id, or whose short id, begins like this.
///
/// # Errors
/// `NotFound`; `Ambiguous` when several begin like this.
pub fn find_branch(branches: &[Branch], reference: &str) -> Result<Branch, StoreError> {
    let visible = || branches.iter().filter(|branch| !branch.undone);
    if let Some(branch) = visible().find(|branch| branch.name == reference) {
        return Ok(branch.clone());
    }
    let lower = reference.to_lowercase();
    let begins = |branch: &&Branch| {
        (ShortId::is_prefix_shaped(&lower) && branch.id.short().as_str().starts_with(&lower))
            || (!lower.is_empty() && branch.id.to_string().starts_with(&lower))
    };
    let found: Vec<&Branch> = visible().filter(begins).collect();
    match found.as_slice() {
        [branch] => Ok((*branch).clone()),
        [] => Err(StoreError::NotFound { what: "branch", reference: reference.to_owned() }),
        several => Err(StoreError::Ambiguous {
            what: "branch",
            reference: reference.to_owned(),
            candidates: several.iter().take(10).map(|branch| branch.name.clone()).collect(),
        }),
    }
}

/// The checkpoint with this number (1 = oldest), at this place (`seq:N`, the newest there along the current
/// branch), with this label, or whose id, or short id, begins like this; with its number. `all` is oldest first.
///
/// # Errors
/// `NotFound`; `Ambiguous` when several are meant.
pub fn find_checkpoint(
    all: &[Checkpoint],
    branches: &[Branch],
    current: BranchId,
    reference: &str,
) -> Result<(usize, Checkpoint), StoreError> {
    let not_found = || StoreError::NotFound { what: "checkpoint", reference: reference.to_owned() };
    let numbered = || all.iter().enumerate().map(|(index, checkpoint)| (index + 1, checkpoint));
    let taken = |(number, checkpoint): (usize, &Checkpoint)| (number, checkpoint.clone());
    if let Ok(number) = reference.parse::<usize>() {
        return numbered().find(|(place, _)| *place == number).map(taken).ok_or_else(not_found);
    }
    if let Some(seq) = reference.strip_prefix("seq:") {
        let seq: Seq = seq.parse().map_err(|_| not_found())?;
        let lineage = Lineage::new(branches);
        let owner = lineage.get(current).map(|branch| lineage.owner(branch, seq).id);
        let here = numbered().filter(|(_, checkpoint)| checkpoint.seq == seq);
        let (on_branch, elsewhere): (Vec<_>, Vec<_>) = here
            .partition(|(_, checkpoint)| Some(checkpoint.branch) == owner || checkpoint.branch == current);
        return on_branch.last().or(elsewhere.last()).copied().map(taken).ok_or_else(not_found);
    }
    let lower = reference.to_lowercase();
    let labelled: Vec<_> =
        numbered().filter(|(_, checkpoint)| checkpoint.label.as_deref() == Some(reference)).collect();
    let begins = |checkpoint: &Checkpoint| {
        (ShortId::is_prefix_shaped(&lower) && checkpoint.id.short().as_str().starts_with(&lower))
            || (!lower.is_empty() && checkpoint.id.to_string().starts_with(&lower))
    };
    let found = if labelled.is_empty() {
        numbered().filter(|(_, checkpoint)| begins(checkpoint)).collect()
    } else {
        labelled
    };
    match found.as_slice() {
        [one] => Ok(taken(*one)),
        [] => Err(not_found()),
        several => Err(StoreError::Ambiguous {
            what: "checkpoint",
            reference: reference.to_owned(),
            candidates: several
                .iter()
                .take(10)
                .map(|(number, checkpoint)| format!("{number} ({})", checkpoint.id.short().shown()))
                .collect(),
        }),
    }
}

/// The run with this number (1 = oldest), so many before the newest (`@`, `@-1`), or whose id, or short id, begins
/// like this; with its number. `all` is oldest first.
///
/// # Errors
/// `NotFound`; `Ambiguous` when several begin like this.
pub fn find_run(all: &[RunId], reference: &str) -> Result<(usize, RunId), StoreError> {
    let not_found = || StoreError::NotFound { what: "run", reference: reference.to_owned() };
    let numbered = || all.iter().enumerate().map(|(index, id)| (index + 1, *id));
    let recent = match reference.strip_prefix('@') {
        Some("") => Some(0),
        Some(back) => back.strip_prefix('-').and_then(|back| back.parse().ok()),
        None => None,
    };
    if let Some(back) = recent {
        return numbered().rev().nth(back).ok_or_else(not_found);
    }
    if let Ok(number) = reference.parse::<usize>() {
        return numbered().find(|(place, _)| *place == number).ok_or_else(not_found);
    }
    let lower = reference.to_lowercase();
    let begins = |(_, id): &(usize, RunId)| {
        (ShortId::is_prefix_shaped(&lower) && id.short().as_str().starts_with(&lower))
            || (!lower.is_empty() && id.to_string().starts_with(&lower))
    };
    match numbered().filter(begins).collect::<Vec<_>>().as_slice() {
        [one] => Ok(*one),
        [] => Err(not_found()),
        several => Err(StoreError::Ambiguous {
            what: "run",
            reference: reference.to_owned(),
            candidates: several
                .iter()
                .take(10)
                .map(|(number, id)| format!("{number} ({})", id.short().shown()))
                .collect(),
        }),
    }
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
    fn a_branch_is_found_by_name_and_by_the_beginning_of_an_id() {
        let branches = [branch("main", false), branch("main-2", false), branch("gone", true)];
        let [main, second, _] = &branches;
        assert_eq!(find_branch(&branches, "main").unwrap(), *main);
        assert_eq!(find_branch(&branches, second.id.short().as_str()).unwrap(), *second);
        assert_eq!(find_branch(&branches, &second.id.to_string()).unwrap(), *second);
        assert!(matches!(find_branch(&branches, "gone"), Err(StoreError::NotFound { .. })));
        assert!(matches!(find_branch(&branches, ""), Err(StoreError::NotFound { .. })));
        // The ids of one moment begin alike.
        let shared: String = main.id.to_string().chars().take(6).collect();
        assert!(matches!(find_branch(&branches, &shared), Err(StoreError::Ambiguous { .. })));
    }

    fn checkpoint(branch: &Branch, seq: Seq, label: Option<&str>) -> Checkpoint {
        Checkpoint {
            id: hfs_core::CheckpointId::generate(),
            session: branch.session,
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
    fn a_checkpoint_is_found_by_number_place_label_and_id() {
        let main = branch("main", false);
        let other = Branch { parent: Some(main.id), forked_at: 4, head: 6, ..branch("other", false) };
        let all = [
            checkpoint(&main, 2, Some("works")),
            checkpoint(&main, 2, None),
            checkpoint(&main, 6, Some("works")),
            checkpoint(&other, 6, None),
        ];
        let branches = [main.clone(), other.clone()];
        let find = |current: &Branch, text: &str| find_checkpoint(&all, &branches, current.id, text);
        let number = |current: &Branch, text: &str| find(current, text).map(|(number, _)| number).ok();
        assert_eq!(number(&main, "1"), Some(1));
        assert_eq!(number(&main, "5"), None);
        assert_eq!(number(&main, "0"), None);
        assert_eq!(number(&main, "seq:2"), Some(2), "the newest one there");
        assert_eq!(number(&main, "seq:6"), Some(3));
        assert_eq!(number(&other, "seq:6"), Some(4));
        assert_eq!(number(&other, "seq:2"), Some(2), "what is before the fork is the parent's");
        assert_eq!(number(&main, "seq:x"), None);
        assert_eq!(number(&main, all[3].id.short().as_str()), Some(4));
        assert!(matches!(find(&main, "works"), Err(StoreError::Ambiguous { .. })));
    }

    #[test]
    fn a_run_is_found_by_number_recency_and_id() {
        let all: Vec<RunId> = (0..4).map(|_| RunId::generate()).collect();
        let number = |text: &str| find_run(&all, text).map(|(number, _)| number).ok();
        assert_eq!(number("1"), Some(1));
        assert_eq!(number("@"), Some(4));
        assert_eq!(number("@-3"), Some(1));
        for nowhere in ["", "0", "5", "@-4", "@x", "@-", "@--1"] {
            assert!(matches!(find_run(&all, nowhere), Err(StoreError::NotFound { .. })), "{nowhere:?}");
        }
        assert_eq!(number(all[2].short().as_str()), Some(3));
        assert_eq!(number(&all[1].to_string().to_uppercase()), Some(2));
        let shared: String = all[0].to_string().chars().take(6).collect();
        // Six hexadecimal digits may be a number as well.
        if shared.parse::<usize>().is_err() {
            assert!(matches!(find_run(&all, &shared), Err(StoreError::Ambiguous { .. })));
        }
        assert!(find_run(&[], "@").is_err());
    }
}
