//! The bundled rules, compiled on demand.
//!
//! There are about a thousand rules. Most have keywords (`ghp_`, `stripe`), one of which a text must contain
//! before the pattern is tried. Compiling all patterns takes longer than a typical export, while one
//! Aho-Corasick search finds all keywords of a text at once. So only rules whose keywords have
//! occurred are compiled.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
use hfs_core::{StoreError, StoreResult, lock_unpoisoned};
use secrets_scanner::rules::BUNDLED_RULES;
use secrets_scanner::{ScanConfig, Scanner, ScannerError};

/// Start of a rule in the rules file.
const RULE_START: &str = "\n[[rules]]\n";
const KEYWORDS_FIELD: &str = "keywords = ";

/// The bundled rules.
pub(super) struct RuleSet {
    /// The part of the rules file before the first rule, which applies to all rules.
    preamble: &'static str,
    rules: Vec<&'static str>,
    keywords: AhoCorasick,
    /// The rule of each keyword.
    rule_by_keyword: Vec<usize>,
    /// Rules without keywords, which are always tried.
    without_keywords: Vec<usize>,
    compiled: Mutex<Compiled>,
}

#[derive(Default)]
struct Compiled {
    /// For each rule, the index of its scanner in `scanners`; `None` if the rule has not been compiled.
    scanner_indexes: Vec<Option<usize>>,
    scanners: Vec<Arc<Scanner>>,
    /// Why rules could not be compiled.
    failure: Option<String>,
}

impl RuleSet {
    pub(super) fn new() -> StoreResult<Self> {
        let mut parts = BUNDLED_RULES.split(RULE_START);
        let preamble = parts.next().unwrap_or_default();
        let rules: Vec<&str> = parts.collect();
        let (mut keywords, mut rule_by_keyword, mut without_keywords) = (Vec::new(), Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            let rule_keywords = keywords_of(rule);
            if rule_keywords.is_empty() {
                without_keywords.push(index);
            }
            rule_by_keyword.extend(rule_keywords.iter().map(|_| index));
            keywords.extend(rule_keywords);
        }
        let keywords = AhoCorasick::builder().ascii_case_insensitive(true).build(&keywords);
        let keywords = keywords.map_err(|error| invalid_rules(&error))?;
        let compiled =
            Mutex::new(Compiled { scanner_indexes: vec![None; rules.len()], ..Compiled::default() });
        Ok(Self { preamble, rules, keywords, rule_by_keyword, without_keywords, compiled })
    }

    /// Returns an error if a rule could not be compiled, since earlier scans may have missed secrets.
    pub(super) fn check(&self) -> StoreResult<()> {
        let compiled = lock_unpoisoned(&self.compiled);
        compiled.failure.as_ref().map_or(Ok(()), |failure| Err(invalid_rules(failure)))
    }

    /// The scanners for the rules whose keywords occur in the text. Compiles them if necessary.
    pub(super) fn scanners_for(&self, text: &str) -> Vec<Arc<Scanner>> {
        let mut wanted: BTreeSet<usize> = self.without_keywords.iter().copied().collect();
        let found = self.keywords.find_overlapping_iter(text);
        wanted
            .extend(found.filter_map(|found| self.rule_by_keyword.get(found.pattern().as_usize()).copied()));
        let mut compiled = lock_unpoisoned(&self.compiled);
        let is_new = |index: &usize| compiled.scanner_indexes.get(*index).is_some_and(Option::is_none);
        let new: Vec<usize> = wanted.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            let scanner_index = compiled.scanners.len();
            for index in &new {
                if let Some(slot) = compiled.scanner_indexes.get_mut(*index) {
                    *slot = Some(scanner_index);
                }
            }
            match self.compile(&new) {
                Ok(scanner) => compiled.scanners.push(Arc::new(scanner)),
                Err(error) => compiled.failure = Some(error.to_string()),
            }
        }
        let scanner_indexes: BTreeSet<usize> = wanted
            .iter()
            .filter_map(|index| compiled.scanner_indexes.get(*index).copied().flatten())
            .collect();
        scanner_indexes
            .into_iter()
            .filter_map(|scanner_index| compiled.scanners.get(scanner_index).cloned())
            .collect()
    }

    fn compile(&self, rules: &[usize]) -> Result<Scanner, ScannerError> {
        let mut text = self.preamble.to_owned();
        for rule in rules.iter().filter_map(|index| self.rules.get(*index)) {
            text.push_str(RULE_START);
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

fn invalid_rules(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unsupported { message: format!("the rules for secrets cannot be compiled: {error}") }
}

/// The keywords of a rule.
fn keywords_of(rule: &str) -> Vec<String> {
    let line = rule.lines().find_map(|line| line.strip_prefix(KEYWORDS_FIELD));
    line.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_loaded_and_nearly_all_have_keywords() {
        let rules = RuleSet::new().unwrap();
        let all: Vec<usize> = (0..rules.rules.len()).collect();
        assert_eq!(
            rules.compile(&all).unwrap().engine().rule_count(),
            BUNDLED_RULES.matches("\nid = ").count()
        );
        assert!(rules.without_keywords.len() < 10, "{}", rules.without_keywords.len());
    }

    #[test]
    fn a_text_without_keywords_compiles_only_a_few_rules() {
        let rules = RuleSet::new().unwrap();
        let scanners = rules.scanners_for("Where are the logs?");
        assert_eq!(scanners.len(), 1);
        assert!(scanners[0].engine().rule_count() < 20, "{}", scanners[0].engine().rule_count());
        let again = rules.scanners_for("Where are the logs?");
        assert!(Arc::ptr_eq(&scanners[0], &again[0]));
        assert!(rules.check().is_ok());
    }
}
