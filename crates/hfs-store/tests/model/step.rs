use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Something that is done to both stores. Numbers choose among what there is, going round.
#[derive(Debug, Clone)]
pub struct Step {
    /// Through which of the two open instances of each store.
    pub through: usize,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    NewSession,
    Import { messages: u8, branches: u8, finished: bool },
    Say { branch: u16, messages: u8, stale: bool },
    SayAttached { branch: u16, bytes: u8 },
    Repeat { branch: u16, message: u16 },
    Begin { branch: u16 },
    Extend { reply: u16, text: u8, stranger: bool },
    Finish { reply: u16 },
    Settle { session: Option<u16> },
    Restart,
    Fork { branch: u16, back: u8, name: u8 },
    Rewind { checkpoint: u16, name: u8 },
    Switch { branch: u16 },
    RenameBranch { branch: u16, name: u8 },
    Rename { session: u16, name: u8, automatic: bool },
    Undo { operation: u16 },
    Redo { operation: u16 },
    ThereAndBack { operation: u16 },
    Checkpoint { branch: u16, back: u8, state: u8, kind: u8, retention: u8 },
    Pin { checkpoint: u16, pinned: bool },
    DeleteCheckpoint { checkpoint: u16 },
    SaveState { branch: u16, state: u8 },
    SavePlugins { branch: u16, kept: u8 },
    SaveRun { branch: u16 },
    Trash { session: u16 },
    Restore { session: u16 },
    Purge { session: u16 },
    PurgeTrash,
    Vacuum,
}

pub fn step() -> impl Strategy<Value = Step> {
    (0..2_usize, action()).prop_map(|(through, action)| Step { through, action })
}

fn action() -> impl Strategy<Value = Action> {
    use Action::*;
    let n = any::<u16>;
    let talk = prop_oneof![
        6 => (n(), 1..5_u8, proptest::bool::weighted(0.1))
            .prop_map(|(branch, messages, stale)| Say { branch, messages, stale }),
        1 => (n(), 0..4_u8).prop_map(|(branch, bytes)| SayAttached { branch, bytes }),
        1 => (n(), n()).prop_map(|(branch, message)| Repeat { branch, message }),
        2 => n().prop_map(|branch| Begin { branch }),
        3 => (n(), any::<u8>(), proptest::bool::weighted(0.2))
            .prop_map(|(reply, text, stranger)| Extend { reply, text, stranger }),
        2 => n().prop_map(|reply| Finish { reply }),
        1 => proptest::option::of(n()).prop_map(|session| Settle { session }),
        1 => Just(Restart),
    ];
    let structure = prop_oneof![
        3 => (n(), 0..4_u8, 0..12_u8).prop_map(|(branch, back, name)| Fork { branch, back, name }),
        2 => (n(), 0..12_u8).prop_map(|(checkpoint, name)| Rewind { checkpoint, name }),
        2 => n().prop_map(|branch| Switch { branch }),
        1 => (n(), 0..12_u8).prop_map(|(branch, name)| RenameBranch { branch, name }),
        1 => (n(), 0..12_u8, any::<bool>())
            .prop_map(|(session, name, automatic)| Rename { session, name, automatic }),
        3 => (0..9_u16).prop_map(|operation| Undo { operation }),
        3 => (0..9_u16).prop_map(|operation| Redo { operation }),
        2 => (1..8_u16).prop_map(|operation| ThereAndBack { operation }),
    ];
    let marks = prop_oneof![
        5 => (n(), 0..3_u8, 0..40_u8, 0..6_u8, 0..5_u8).prop_map(|(branch, back, state, kind, retention)| {
            Checkpoint { branch, back, state, kind, retention }
        }),
        1 => (n(), any::<bool>()).prop_map(|(checkpoint, pinned)| Pin { checkpoint, pinned }),
        2 => n().prop_map(|checkpoint| DeleteCheckpoint { checkpoint }),
        1 => (n(), 0..40_u8).prop_map(|(branch, state)| SaveState { branch, state }),
        1 => (n(), 0..3_u8).prop_map(|(branch, kept)| SavePlugins { branch, kept }),
        1 => n().prop_map(|branch| SaveRun { branch }),
    ];
    let sessions = prop_oneof![
        2 => Just(NewSession),
        2 => (0..4_u8, 0..3_u8, proptest::bool::weighted(0.8))
            .prop_map(|(messages, branches, finished)| Import { messages, branches, finished }),
        2 => n().prop_map(|session| Trash { session }),
        2 => n().prop_map(|session| Restore { session }),
        1 => n().prop_map(|session| Purge { session }),
        1 => Just(PurgeTrash),
        1 => Just(Vacuum),
    ];
    prop_oneof![8 => talk, 8 => structure, 4 => marks, 2 => sessions]
}
