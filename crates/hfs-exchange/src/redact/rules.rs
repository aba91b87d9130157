//! The rules, of which only those are compiled that a text gives cause for.
//!
//! There are about a thousand, most of which ask for a word (`ghp_`, `stripe`) in the text before their pattern is
//! tried at all. Compiling every pattern takes longer than a usual export; finding the words takes nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use hfs_core::{StoreError, StoreResult};
use secrets_scanner::rules::BUNDLED_RULES;
use secrets_scanner::{ScanConfig, Scanner, ScannerError};

/// What begins a rule in the rules' file.
const RULE: &str = "\n[[rules]]\n";
const KEYWORDS: &str = "keywords = ";

/// The rules that came with the program.
pub(super) struct Rules {
    /// What stands before the rules and holds for all of them.
    head: &'static str,
    rules: Vec<&'static str>,
    words: AhoCorasick,
    /// By word: the rule that asks for it.
    asking: Vec<usize>,
    /// Rules that ask for no word.
    always: Vec<usize>,
    compiled: Mutex<Compiled>,
}

#[derive(Default)]
struct Compiled {
    /// By rule: the scanner that it is in.
    places: Vec<Option<usize>>,
    scanners: Vec<Arc<Scanner>>,
    /// Why some could not be compiled.
    failure: Option<String>,
}

impl Rules {
    pub(super) fn new() -> StoreResult<Self> {
        let mut parts = BUNDLED_RULES.split(RULE);
        let head = parts.next().unwrap_or_default();
        let rules: Vec<&str> = parts.collect();
        let (mut words, mut asking, mut always) = (Vec::new(), Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            let asked = words_of(rule);
            if asked.is_empty() {
                always.push(index);
            }
            asking.extend(asked.iter().map(|_| index));
            words.extend(asked);
        }
        let words = AhoCorasick::builder().ascii_case_insensitive(true).build(&words);
        let words = words.map_err(|error| broken(&error))?;
        let compiled = Mutex::new(Compiled { places: vec![None; rules.len()], ..Compiled::default() });
        Ok(Self { head, rules, words, asking, always, compiled })
    }

    /// Whether every rule that was needed so far could be compiled: without one, nothing may leave as searched.
    pub(super) fn check(&self) -> StoreResult<()> {
        let compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.failure.as_ref().map_or(Ok(()), |failure| Err(broken(failure)))
    }

    /// The scanners that may find something in a text.
    pub(super) fn scanners_for(&self, text: &str) -> Vec<Arc<Scanner>> {
        let mut wanted: BTreeSet<usize> = self.always.iter().copied().collect();
        let found = self.words.find_overlapping_iter(text);
        wanted.extend(found.filter_map(|word| self.asking.get(word.pattern().as_usize()).copied()));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |index: &usize| compiled.places.get(*index).is_some_and(Option::is_none);
        let new: Vec<usize> = wanted.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            let place = compiled.scanners.len();
            for index in &new {
                if let Some(slot) = compiled.places.get_mut(*index) {
                    *slot = Some(place);
                }
            }
            match self.compile(&new) {
                Ok(scanner) => compiled.scanners.push(Arc::new(scanner)),
                Err(error) => compiled.failure = Some(error.to_string()),
            }
        }
        let places: BTreeSet<usize> =
            wanted.iter().filter_map(|index| compiled.places.get(*index).copied().flatten()).collect();
        places.into_iter().filter_map(|place| compiled.scanners.get(place).cloned()).collect()
    }

    fn compile(&self, rules: &[usize]) -> Result<Scanner, ScannerError> {
        let mut text = self.head.to_owned();
        for rule in rules.iter().filter_map(|index| self.rules.get(*index)) {
            text.push_str(RULE);
            text.push_str(rule);
        }
        let config = ScanConfig {
            honor_allow_markers: false,
            capture_context: false,
            redact: true,
            ..ScanConfig::default()
        };
        Ok(Scanner::from_toml(&text)?.with_config(config))
    }
}

fn broken(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unsupported { message: format!("the rules for secrets cannot be compiled: {error}") }
}

/// The words that a rule asks for one of.
fn words_of(rule: &str) -> Vec<String> {
    let line = rule.lines().find_map(|line| line.strip_prefix(KEYWORDS));
    line.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_there_and_nearly_all_ask_for_a_word() {
        let rules = Rules::new().unwrap();
        let all: Vec<usize> = (0..rules.rules.len()).collect();
        assert_eq!(
            rules.compile(&all).unwrap().engine().rule_count(),
            BUNDLED_RULES.matches("\nid = ").count()
        );
        assert!(rules.always.len() < 10, "{}", rules.always.len());
    }

    #[test]
    fn a_text_without_the_words_compiles_next_to_nothing() {
        let rules = Rules::new().unwrap();
        let scanners = rules.scanners_for("Where are the logs?");
        assert_eq!(scanners.len(), 1);
        assert!(scanners[0].engine().rule_count() < 20, "{}", scanners[0].engine().rule_count());
        let again = rules.scanners_for("Where are the logs?");
        assert!(Arc::ptr_eq(&scanners[0], &again[0]));
        assert!(rules.check().is_ok());
    }
}
