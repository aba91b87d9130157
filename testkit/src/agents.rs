//! What the agents of triads answer in their right minds, for a model server that plays all of them.

use crate::model_server::{Recorded, Script};

/// What an agent in its right mind answers: everything it may claim it claims, and holds. The arbiter gives
/// sections to the last claimant.
#[must_use]
pub fn sound_answer(asked: &Recorded) -> Script {
    Script::text(sound_text(&asked.last_turn()))
}

/// The same, for what is asked in the last turn.
#[must_use]
pub fn sound_text(prompt: &str) -> String {
    let lines = |mark: &str| -> Vec<String> {
        let with = prompt.lines().filter(|line| line.contains(mark));
        with.filter_map(|line| Some(line.strip_prefix("- ")?.split([':', '(']).next()?.trim().to_owned()))
            .collect()
    };
    if prompt.contains(r#"{"tasks""#) {
        r#"{"tasks": ["find the answer", "find the catch"]}"#.into()
    } else if prompt.contains(r#"{"position""#) {
        let claims = lines("(your triad");
        serde_json::json!({"position": "We hold that.", "claims": claims, "proposals": ["Say so."]})
            .to_string()
    } else if prompt.contains(r#"{"vote""#) {
        r#"I vote: {"vote": 2}"#.into()
    } else if prompt.contains(r#"{"decisions""#) {
        let held: Vec<_> = lines("also claimed by")
            .into_iter()
            .map(|section| serde_json::json!({"section": section, "decision": "hold"}))
            .collect();
        serde_json::json!({"decisions": held}).to_string()
    } else if prompt.contains(r#"{"decision""#) {
        let claimants = prompt.split("is claimed by ").nth(1).and_then(|rest| rest.split('.').next());
        let owner = claimants.and_then(|claimants| claimants.rsplit(", ").next());
        serde_json::json!({"decision": "assign", "owner": owner, "reason": "it is last"}).to_string()
    } else if prompt.contains("Make one coherent reply") {
        "The whole reply.".into()
    } else {
        "Some words about it.".into()
    }
}
