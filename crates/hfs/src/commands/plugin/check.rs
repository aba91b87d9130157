//! `hfs plugin check`: what a plugin is, and what each of its parts makes of a sample.

use std::time::Instant;

use hfs_core::{
    Clock as _, ErrorKind, Event, EventPayload, Hooks as _, RunEnding, RunId, RunSnapshot, SystemClock,
    Verdict,
};
use hfs_plugins::{Export, Permission};
use serde::Serialize;

use super::TryArgs;
use super::tryout::{ANSWER, SAMPLE, Tryout};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;

/// What became of one part of a plugin.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    ok: bool,
    /// What it did, or why it did not work.
    told: String,
    microseconds: u128,
}

/// Checks a plugin; `Outcome::Failed` when anything of it does not work.
///
/// # Errors
/// What keeps it from running at all.
pub fn run(wanted: &TryArgs, context: &Context) -> Result<Outcome, Failure> {
    let tryout = Tryout::new(wanted, context)?;
    let runtime = super::runtime()?;
    let plugin = runtime.block_on(tryout.start())?;
    let mut findings = Vec::new();
    let mut known = 0;
    for power in &plugin.permissions {
        if let Permission::Export(export) = power {
            let begin = Instant::now();
            let told = runtime.block_on(try_part(&tryout, *export));
            let microseconds = begin.elapsed().as_micros();
            let mut failures = tryout.failures()?;
            let failed = failures.split_off(known.min(failures.len()));
            known += failed.len();
            let told = match failed.into_iter().next() {
                Some(failed) => Err(failed),
                None => told,
            };
            let ok = told.is_ok();
            let told = told.unwrap_or_else(|why| why);
            findings.push(Finding { part: export.as_str(), ok, told, microseconds });
        }
    }
    let ok = findings.iter().all(|finding| finding.ok);
    let console = &context.console;
    if console.manner.json {
        let document = serde_json::json!({
            "plugin": super::view::PluginRow::from(&plugin), "ok": ok, "parts": findings,
        });
        console.json(&document)?;
    } else {
        let mut text =
            format!("{} {}: its manifest is in order\n", plain::line(&plugin.name), plugin.version);
        for warning in &plugin.warnings {
            text += &format!("  {}\n", plain::line(warning));
        }
        for Finding { part, ok, told, microseconds } in &findings {
            let mark = if *ok { "ok    " } else { "FAILED" };
            text += &format!(
                "{mark} {part:<16} {:>7.1} ms  {}\n",
                *microseconds as f64 / 1000.0,
                plain::line(told)
            );
        }
        console.print(&text)?;
    }
    Ok(if ok { Outcome::Done } else { Outcome::Partly(ErrorKind::Invalid) })
}

async fn try_part(tryout: &Tryout, export: Export) -> Result<String, String> {
    let (plugins, session) = (&tryout.plugins, tryout.session);
    match export {
        Export::OnStart => {
            plugins.on_start(session).await;
            Ok("ran".into())
        }
        Export::OnExit => {
            plugins.on_exit(session).await;
            Ok("ran".into())
        }
        Export::OnMessage => {
            let said = verdict(plugins.on_message(session, SAMPLE, true).await);
            let answered = verdict(plugins.on_message(session, ANSWER, false).await);
            Ok(format!("{SAMPLE:?} {said}; an answer {answered}"))
        }
        Export::OnEvent => {
            plugins.on_event(session, &ended()).await;
            // Nobody waits for what becomes of an event.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            Ok("was told of run.ended".into())
        }
        Export::OnRunComplete => {
            plugins.on_run_complete(session, &RunSnapshot::fold([&ended()])).await;
            Ok("ran with an empty run".into())
        }
        Export::Commands => {
            let names: Vec<String> = plugins.commands().into_iter().map(|command| command.name).collect();
            if names.is_empty() { Err("it has none".into()) } else { Ok(format!("/{}", names.join(", /"))) }
        }
        Export::Widgets => {
            let _ = plugins.widgets(Some(session));
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let drawn = plugins.widgets(Some(session));
            match drawn.len() {
                0 => Err("nothing was drawn".into()),
                count => Ok(format!("{count} drawn")),
            }
        }
    }
}

fn ended() -> Event {
    Event {
        run: RunId::generate(),
        number: 1,
        at: SystemClock.now(),
        payload: EventPayload::RunEnded { duration_ms: 1200, ending: RunEnding::Completed },
    }
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => "passes".into(),
        Verdict::Replace(text) => format!("becomes {text:?}"),
        Verdict::Reject { reason, .. } => format!("is stopped: {reason:?}"),
    }
}
