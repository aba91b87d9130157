//! What plugins keep for sessions: in memory while a session is open, and in its checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hfs_core::{PluginStates, SessionId};
use serde_json::{Map, Value};

/// What one plugin may keep for one session, whatever its storage permission says: it is in every checkpoint.
pub(crate) const MOST_BYTES: u64 = 256 << 10;

/// What plugins keep for sessions, by the plugin's name. What belongs to a plugin that is not there is carried.
#[derive(Debug, Default)]
pub(crate) struct SessionStates {
    sessions: Mutex<HashMap<SessionId, PluginStates>>,
}

impl SessionStates {
    /// `None` for a session that nobody has put a state back for, or changed one of.
    pub fn of(&self, session: SessionId) -> Option<PluginStates> {
        self.lock().get(&session).cloned()
    }

    pub fn restore(&self, session: SessionId, state: &PluginStates) {
        self.lock().insert(session, state.clone());
    }

    /// Reads what `plugin` keeps for the session.
    pub fn read<T>(
        &self,
        session: SessionId,
        plugin: &str,
        read: impl FnOnce(&Map<String, Value>) -> T,
    ) -> T {
        let sessions = self.lock();
        let kept = sessions.get(&session).and_then(|plugins| plugins.get(plugin)).and_then(Value::as_object);
        match kept {
            Some(kept) => read(kept),
            None => read(&Map::new()),
        }
    }

    /// Changes what `plugin` keeps for the session. What it kept in another form is replaced.
    pub fn change<T>(
        &self,
        session: SessionId,
        plugin: &str,
        change: impl FnOnce(&mut Map<String, Value>) -> T,
    ) -> T {
        let mut sessions = self.lock();
        let plugins = sessions.entry(session).or_default();
        let mut kept = match plugins.remove(plugin) {
            Some(Value::Object(kept)) => kept,
            _ => Map::new(),
        };
        let result = change(&mut kept);
        if !kept.is_empty() {
            plugins.insert(plugin.to_owned(), Value::Object(kept));
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, PluginStates>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_put_back_is_what_it_was_with_what_belongs_to_others() {
        let states = SessionStates::default();
        let session = SessionId::generate();
        states.change(session, "a", |kept| kept.insert("n".into(), "1".into()));
        let mut before = states.of(session).unwrap();
        before.insert("gone".into(), serde_json::json!([1, 2]));
        states.change(session, "a", |kept| kept.insert("n".into(), "2".into()));
        states.restore(session, &before);
        assert_eq!(states.of(session), Some(before));
        assert_eq!(states.read(session, "a", |kept| kept["n"].clone()), "1");
        states.change(session, "a", |kept| kept.remove("n"));
        assert_eq!(states.of(session).unwrap().iter().map(|(name, _)| name).collect::<Vec<_>>(), ["gone"]);
        assert_eq!(states.of(SessionId::generate()), None);
    }
}
