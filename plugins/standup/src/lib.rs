//! `/standup [DAYS]`: the sessions of today, or of the last days, with the questions in each.

use hfs_plugin::{Command, Commands, Error, Invocation, Outcome, clock, session};

struct Standup;

const DAY: u64 = 24 * 60 * 60 * 1_000;
const MAX_SESSIONS: u32 = 50;
/// Maximum number of questions that are listed for a session.
const MAX_QUESTIONS: usize = 5;
const MAX_LINE_CHARS: usize = 100;

/// Start of the first of the last `days` days in the user's time zone, in milliseconds since 1970.
fn since(days: u64) -> u64 {
    let now = clock::now();
    let ahead = i64::from(clock::offset(now)) * 60_000;
    let local = now.saturating_add_signed(ahead);
    let midnight = local - local % DAY;
    midnight.saturating_add_signed(-ahead).saturating_sub((days - 1) * DAY)
}

/// Hours and minutes in the user's time zone.
fn time_of_day(at: u64) -> String {
    let local = at.saturating_add_signed(i64::from(clock::offset(at)) * 60_000);
    let minutes = local / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let mut short: String = line.chars().take(MAX_LINE_CHARS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

fn days(arguments: &str) -> Result<u64, Error> {
    match arguments.trim() {
        "" => Ok(1),
        text => text.parse().ok().filter(|days| (1..=31).contains(days)).ok_or_else(|| {
            Error { code: "invalid".into(), message: format!("{text:?} is not a number of days from 1 to 31") }
        }),
    }
}

fn summary(days: u64) -> Result<String, Error> {
    let since = since(days);
    let sessions = session::recent(since, MAX_SESSIONS)?;
    let when = if days == 1 { "Today".to_owned() } else { format!("The last {days} days") };
    let mut text = format!("## {when}: {} session{}\n", sessions.len(), if sessions.len() == 1 { "" } else { "s" });
    for info in sessions.iter().rev() {
        text += &format!("\n**{}** ({}, {} messages)\n", info.name, time_of_day(info.updated_ms), info.messages);
        let messages = session::messages(&info.id, 0, 200)?;
        let asked: Vec<&session::Message> =
            messages.iter().filter(|message| message.role == "user" && message.created_ms >= since).collect();
        for message in asked.iter().take(MAX_QUESTIONS) {
            text += &format!("- {}\n", first_line(&message.text));
        }
        if asked.len() > MAX_QUESTIONS {
            text += &format!("- and {} more\n", asked.len() - MAX_QUESTIONS);
        }
    }
    Ok(text)
}

impl Commands for Standup {
    fn list() -> Vec<Command> {
        vec![Command {
            name: "standup".into(),
            about: "what you worked on today".into(),
            usage: "[DAYS]".into(),
        }]
    }

    fn run(invocation: Invocation) -> Result<Outcome, Error> {
        summary(days(&invocation.arguments)?).map(Outcome::Show)
    }
}

hfs_plugin::plugin!(Standup: commands);
