//! What people decide about plugins, and what plugins bring upon themselves.

use std::sync::Arc;

use super::{Inner, Plugins, State, UNSEEN};
use crate::PluginError;
use crate::actor::lock;
use crate::discover::{Found, look};
use crate::grants::{Decision, Grant};
use crate::hooks::ON_MESSAGE;

impl Plugins {
    /// Lets a plugin run, as it is now, and starts it.
    ///
    /// # Errors
    /// `NoPlugin`; `NotActive` for one that cannot run, or whose files changed since it was listed: it has to be
    /// looked at again; as the file of decisions has it.
    pub fn approve(&self, name: &str) -> Result<(), PluginError> {
        let inner = &self.inner;
        let (listed, not_active) = {
            let table = lock(&inner.table);
            let entry = table.entry(name)?;
            (entry.found.clone(), entry.not_active())
        };
        let Ok(candidate) = &listed.candidate else { return Err(not_active) };
        let unchanged =
            look(&listed.folder, listed.place).candidate.is_ok_and(|now| now.hash == candidate.hash);
        if !unchanged {
            inner.rediscover();
            let reason = "its files changed while they were looked at".to_owned();
            return Err(PluginError::NotActive { name: name.to_owned(), state: "pending", reason });
        }
        let grant = Grant {
            content: candidate.hash.clone(),
            decision: Decision::Approved,
            powers: candidate.powers().iter().map(ToString::to_string).collect(),
            decided_at: inner.parts.clock.now().to_string(),
            strikes: 0,
            quarantine: None,
        };
        inner.grants.change(&listed.key(), |_| Some(grant))?;
        inner.refresh();
        Ok(())
    }

    /// Says that a plugin may not run, and ends it.
    ///
    /// # Errors
    /// `NoPlugin`; as the file of decisions has it.
    pub fn deny(&self, name: &str) -> Result<(), PluginError> {
        let inner = &self.inner;
        let found = lock(&inner.table).entry(name)?.found.clone();
        let denied = Grant {
            content: found.candidate.as_ref().map(|candidate| candidate.hash.clone()).unwrap_or_default(),
            decision: Decision::Denied,
            decided_at: inner.parts.clock.now().to_string(),
            ..Grant::default()
        };
        inner.grants.change(&found.key(), |_| Some(denied))?;
        inner.refresh();
        Ok(())
    }

    /// Forgets what was decided about a plugin, and ends it.
    ///
    /// # Errors
    /// `NoPlugin`; as the file of decisions has it.
    pub fn revoke(&self, name: &str) -> Result<(), PluginError> {
        let inner = &self.inner;
        let key = lock(&inner.table).entry(name)?.found.key();
        inner.grants.change(&key, |_| None)?;
        inner.refresh();
        Ok(())
    }

    /// Switches a plugin on again, and lets it out of quarantine. Whether it is approved is another matter.
    ///
    /// # Errors
    /// `NoPlugin`; as the file of decisions has it.
    pub fn enable(&self, name: &str) -> Result<(), PluginError> {
        let inner = &self.inner;
        let key = {
            let mut table = lock(&inner.table);
            let key = table.entry(name)?.found.key();
            table.disabled.remove(name);
            key
        };
        inner
            .grants
            .change(&key, |grant| grant.map(|grant| Grant { strikes: 0, quarantine: None, ..grant }))?;
        inner.refresh();
        Ok(())
    }

    /// Switches a plugin off, in this process. That it stays off is the configuration's affair.
    ///
    /// # Errors
    /// `NoPlugin`.
    pub fn disable(&self, name: &str) -> Result<(), PluginError> {
        let inner = &self.inner;
        {
            let mut table = lock(&inner.table);
            table.entry(name)?;
            table.disabled.insert(name.to_owned());
        }
        inner.refresh();
        Ok(())
    }

    /// Looks for plugins anew: some may have come, gone or changed.
    pub fn refresh(&self) {
        self.inner.refresh();
    }
}

impl Inner {
    /// A plugin had to be stopped. Answers whether it may go on.
    pub(super) fn stopped(self: &Arc<Self>, found: &Found, call: &str, reason: &str) -> bool {
        let most = self.parts.limits.strikes;
        let mut strikes = 0;
        let mut quarantine = None;
        let kept = self.grants.change(&found.key(), |grant| {
            let mut grant = grant?;
            grant.strikes += 1;
            strikes = grant.strikes;
            if strikes >= most {
                grant.quarantine =
                    Some(format!("it was stopped {strikes} times, at last in {call}: {reason}"));
            }
            quarantine.clone_from(&grant.quarantine);
            Some(grant)
        });
        if let Err(error) = kept {
            // Without a memory of its strikes it is not let on.
            quarantine = Some(format!("it was stopped in {call}: {reason}, and {error}"));
        }
        let unseen = if call == ON_MESSAGE { format!("; {UNSEEN}") } else { String::new() };
        let Some(quarantine) = quarantine else {
            let text = format!("stopped in {call}: {reason} ({strikes} of {most}){unseen}");
            self.notices.tell(&found.name, &text);
            return true;
        };
        self.notices.tell(&found.name, &format!("quarantined: {quarantine}{unseen}"));
        if let Ok(entry) = lock(&self.table).entry_mut(&found.name) {
            entry.put(State::Quarantined, quarantine);
        }
        self.notices.changed();
        false
    }
}
