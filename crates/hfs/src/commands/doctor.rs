//! `hfs doctor`

mod checks;

use hfs_core::{ErrorExt, ErrorKind};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{ErrorDocument, Failure, Outcome};
use crate::plain;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    kind: ErrorKind,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), hint: None, kind: ErrorKind::Internal }
    }

    fn warning(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Warning, hint: Some(hint.into()), ..Self::ok(name, detail) }
    }

    fn failed(name: &'static str, failure: &Failure) -> Self {
        let ErrorDocument { message, causes, hint, .. } = failure.document();
        let detail = [vec![message], causes].concat().join(": ");
        Self { status: Status::Failed, hint, kind: failure.kind(), ..Self::ok(name, detail) }
    }
}

/// Looks at everything that has to be right, and says what is not.
pub fn run(context: &Context) -> Result<Outcome, Failure> {
    let checks = checks::all(context)?;
    let worst = checks.iter().find(|check| check.status == Status::Failed);
    let outcome = worst.map_or(Outcome::Done, |check| Outcome::Partly(check.kind));
    let console = &context.console;
    if console.manner.json {
        console.json(&serde_json::json!({ "ok": worst.is_none(), "checks": checks }))?;
        return Ok(outcome);
    }
    let palette = &console.palette;
    let mut text = String::new();
    for check in &checks {
        let (style, mark) = match check.status {
            Status::Ok => (palette.good, "ok     "),
            Status::Warning => (palette.warning, "warning"),
            Status::Failed => (palette.error, "failed "),
        };
        text += &format!("{style}{mark}{style:#}  {:11}  {}\n", check.name, plain::line(&check.detail));
        if let Some(hint) = &check.hint {
            text += &format!("{:22}{}\n", "", plain::line(hint));
        }
    }
    console.print(&text)?;
    Ok(outcome)
}
