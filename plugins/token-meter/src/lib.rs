//! Shows the tokens of a session, run by run, and their cost. The user sets the price in `plugin_settings.yaml`:
//!
//! ```yaml
//! token-meter: { price_per_million: 9.0, currency: "$", budget: 200000 }
//! ```

use hfs_plugin::kv::{self, Scope};
use hfs_plugin::{
    Command, Commands, Error, Gauge, Invocation, Node, OnRunComplete, Outcome, Tone, Widget, Widgets, config,
};
use serde_json::Value;

struct Meter;

const RUNS: &str = "runs";
/// Number of runs whose tokens are stored one by one; older runs only count in the sum.
const MAX_RUNS: usize = 60;
const SUM: &str = "sum";

fn number(key: &str) -> Option<f64> {
    config::get(key)?.parse().ok()
}

fn sum() -> Result<u64, Error> {
    Ok(kv::get(Scope::Session, SUM)?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Tokens of the last runs, oldest first.
fn runs() -> Result<Vec<u64>, Error> {
    let kept = kv::get(Scope::Session, RUNS)?.unwrap_or_default();
    Ok(kept.split(' ').filter_map(|tokens| tokens.parse().ok()).collect())
}

fn price(tokens: u64) -> Option<String> {
    let cost = number("price_per_million")? * tokens as f64 / 1e6;
    let currency = config::get("currency").unwrap_or_else(|| "\"$\"".into());
    Some(format!("{}{cost:.4}", currency.trim_matches('"')))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

impl OnRunComplete for Meter {
    fn handle(_session: String, snapshot: String) -> Result<(), Error> {
        let snapshot: Value = serde_json::from_str(&snapshot).map_err(|error| error.to_string())?;
        let tokens = snapshot["usage"]["total_tokens"].as_u64().unwrap_or(0);
        let mut runs = runs()?;
        runs.push(tokens);
        let runs: Vec<String> =
            runs.iter().rev().take(MAX_RUNS).rev().map(u64::to_string).collect();
        kv::set(Scope::Session, RUNS, &runs.join(" "))?;
        kv::set(Scope::Session, SUM, &(sum()? + tokens).to_string())
    }
}

impl Widgets for Meter {
    fn list() -> Vec<Widget> {
        vec![Widget { id: "meter".into(), slot: "sidebar".into(), title: "Tokens".into(), refresh_ms: None }]
    }

    fn render(_id: String, session: Option<String>) -> Result<Vec<Node>, Error> {
        if session.is_none() {
            return Ok(vec![Node::toned("no session yet", Tone::Dim)]);
        }
        let sum = sum()?;
        let cost = price(sum).map(|cost| format!("  {cost}")).unwrap_or_default();
        let mut nodes = vec![Node::line(format!("{}{cost}", grouped(sum)))];
        if let Some(budget) = number("budget").filter(|budget| *budget > 0.0) {
            nodes.push(Node::Gauge(Gauge { label: "of the budget".into(), ratio: sum as f64 / budget }));
        }
        let runs = runs()?;
        if runs.len() > 1 {
            nodes.push(Node::Sparkline(runs));
        }
        Ok(nodes)
    }
}

impl Commands for Meter {
    fn list() -> Vec<Command> {
        vec![Command { name: "tokens".into(), about: "what this session has cost so far".into(), usage: String::new() }]
    }

    fn run(_invocation: Invocation) -> Result<Outcome, Error> {
        let runs = runs()?;
        let sum = sum()?;
        let cost = price(sum).map(|cost| format!(", {cost}")).unwrap_or_default();
        let last = runs.last().map(|last| format!("; {} in the last run", grouped(*last))).unwrap_or_default();
        Ok(Outcome::Show(format!("**{} tokens**{cost} in this session{last}.", grouped(sum))))
    }
}

hfs_plugin::plugin!(Meter: on_run_complete, widgets, commands);
