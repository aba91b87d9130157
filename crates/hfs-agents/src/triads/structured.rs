//! What agents answer in structured form, read leniently: around the JSON there may be words and fences.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The first JSON object in a text that has the expected shape.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    // Only so many beginnings are tried, so that a hostile text costs no more than a few readings.
    text.match_indices('{').take(64).find_map(|(start, _)| {
        let mut values = serde_json::Deserializer::from_str(text.get(start..)?).into_iter::<T>();
        values.next()?.ok()
    })
}

/// A triad's position.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Position {
    pub position: String,
    /// The sections it wants to write.
    pub claims: Vec<String>,
    #[serde(default)]
    pub proposals: Vec<String>,
}

impl Position {
    pub const SHAPE: &'static str =
        r#"{"position": "what you hold", "claims": ["section name"], "proposals": ["what to say in them"]}"#;
}

/// A question taken apart.
#[derive(Debug, Deserialize)]
pub(super) struct Tasks {
    pub tasks: [String; 2],
}

impl Tasks {
    pub const SHAPE: &'static str = r#"{"tasks": ["for the first worker", "for the second worker"]}"#;
}

/// A vote for one of several numbered positions.
#[derive(Debug, Deserialize)]
pub(super) struct Vote {
    pub vote: usize,
}

impl Vote {
    pub const SHAPE: &'static str = r#"{"vote": 1}"#;
}

/// What a triad decides about the sections it has contested.
#[derive(Debug, Deserialize)]
pub(super) struct Decisions {
    pub decisions: Vec<DecisionOn>,
}

impl Decisions {
    pub const SHAPE: &'static str = r#"{"decisions": [{"section": "name", "decision": "concede | revise | hold", "part": "if revise: what you still want"}]}"#;
}

/// What a triad decides about one section.
#[derive(Debug, Deserialize)]
pub(super) struct DecisionOn {
    pub section: String,
    pub decision: Choice,
    #[serde(default)]
    pub part: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Choice {
    Concede,
    Revise,
    Hold,
}

/// What the arbiter decides.
#[derive(Debug, Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub(super) enum Judgement {
    Assign { owner: String, reason: String },
    Split { shares: Vec<Share>, reason: String },
    Merge { into: String, reason: String },
}

impl Judgement {
    pub const SHAPE: &'static str = r#"{"decision": "assign", "owner": "triad", "reason": "why"} or {"decision": "split", "shares": [{"triad": "who leads", "part": "what"}, {"triad": "another", "part": "what"}], "reason": "why"} or {"decision": "merge", "into": "section", "reason": "why"}"#;
}

/// A part of a section for a triad.
#[derive(Debug, Deserialize)]
pub(super) struct Share {
    pub triad: String,
    #[serde(default)]
    pub part: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_found_among_words_and_fences() {
        for text in [
            r#"{"vote": 2}"#,
            "Sure! ```json\n{\"vote\": 2}\n``` Anything else?",
            "I think {this} is it: {\"vote\": 2, \"why\": \"it is {good}\"}",
        ] {
            assert_eq!(read::<Vote>(text).map(|vote| vote.vote), Some(2), "{text}");
        }
    }

    #[test]
    fn what_has_another_shape_is_not_taken() {
        for text in ["", "no", "{", "{\"vote\": \"two\"}", "[1]", "{\"vote\": -1}"] {
            assert!(read::<Vote>(text).is_none(), "{text}");
        }
        assert!(read::<Judgement>(r#"{"decision": "burn", "reason": "x"}"#).is_none());
    }

    proptest! {
        #[test]
        fn no_text_can_crash_the_reading(text in "[\\[{}\\]\":,a-z0-9 \\n]{0,400}") {
            let _ = read::<Position>(&text);
            let _ = read::<Decisions>(&text);
            let _ = read::<Judgement>(&text);
        }
    }

    #[test]
    fn a_text_of_braces_is_read_in_no_time() {
        assert!(read::<Position>(&"{".repeat(1_000_000)).is_none());
        assert!(read::<Position>(&"{\"a\":".repeat(200_000)).is_none());
    }
}
