//! A process that imports one session after the other.

use std::collections::BTreeMap;

use hfs_core::{Maintenance, MessageRange, MessageStore, PageRequest, SessionFilter, SessionStore};
use testkit::builders::{Drafts, at, attachment, growing_state};

use crate::child::{Part, acknowledge};
use crate::{assert_well, open};

/// Messages of each branch; more than are written at a time.
const MESSAGES: u64 = 1500;

pub fn play(part: &Part) {
    let store = open(&part.store);
    let make = Drafts::new(part.seed);
    loop {
        let draft = make.session("arriving");
        let side = make.ids.branch();
        let bytes = attachment(draft.id.to_string().as_bytes());
        let mut import = store.import_session(&draft).unwrap();
        import.attachment(&bytes).unwrap();
        acknowledge("begun");
        for number in 1..=MESSAGES {
            import.message(0, &make.user(&format!("message {number}"))).unwrap();
        }
        import.branch(1, 0, 1, side, "side").unwrap();
        import.message(1, &make.full_message(&bytes)).unwrap();
        import.checkpoint(&make.checkpoint(at(side, 2), growing_state(5))).unwrap();
        import.run(&make.run(side)).unwrap();
        acknowledge("filled");
        import.finish("imported", 1, make.now(), make.now()).unwrap();
        acknowledge(&format!("imported {}", draft.id));
    }
}

pub fn survive(kills: u64) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let mut rng = fastrand::Rng::with_seed(2);
    let mut imported: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..kills {
        let heard = Part::new("import", &path, seed).start().kill_after(rng.usize(1..5), &mut rng);
        let acknowledged = heard.iter().filter_map(|line| line.strip_prefix("imported "));
        imported.extend(acknowledged.map(|id| (id.to_owned(), seed)));

        let store = open(&path);
        let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(1000)).unwrap();
        assert_eq!(page.next, None);
        for summary in &page.items {
            assert_eq!((summary.messages, summary.branches, summary.checkpoints), (MESSAGES + 1, 2, 1));
            let main = store.read_messages(summary.session.current_branch, MessageRange::Newest(9)).unwrap();
            assert_eq!(main.len(), 2);
            imported.entry(summary.session.id.to_string()).or_insert(seed);
        }
        assert_eq!(page.items.len(), imported.len(), "what was acknowledged is there");
        assert_eq!(store.info().unwrap().messages, imported.len() as u64 * (MESSAGES + 1));
        assert_well(&store);
    }
}
