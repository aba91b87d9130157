//! `hfs plugin dev`: a plugin that is loaded anew whenever one of its files is saved, and tried out meanwhile.

use std::io::BufRead;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{Hooks as _, Node, Slot, Verdict};
use hfs_plugins::{Permission, PluginStatus};
use notify::{EventKind, RecursiveMode, Watcher as _};

use super::TryArgs;
use super::tryout::Tryout;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;

/// How long files have to be at rest before they are read: an editor writes one in several steps.
const REST: Duration = Duration::from_millis(15);

const HELP: &str = "\
Type what a user would say, and see what the plugin makes of it. /NAME TEXT runs a command, /widgets shows what it draws,
/log what it wrote, /reload loads it anew, /quit ends this.";

/// What there is to react to.
enum Signal {
    Saved,
    Typed(String),
    Ended,
}

/// Tries a plugin out until its author has enough.
///
/// # Errors
/// What keeps it from being looked at. One that does not run is told, and tried again when it is saved.
pub fn run(wanted: &TryArgs, context: &Context) -> Result<Outcome, Failure> {
    let tryout = Tryout::new(wanted, context)?;
    let (signals, waiting) = mpsc::channel();
    let _watcher = watch(&tryout.folder, signals.clone())?;
    listen(signals);
    let bench = Bench { runtime: super::runtime()?, tryout, context };
    bench.run(wanted.yes, &waiting)
}

fn watch(folder: &Path, signals: Sender<Signal>) -> Result<notify::RecommendedWatcher, Failure> {
    let failed = |error: notify::Error| {
        Failure::io(format!("watch {}", folder.display()), std::io::Error::other(error))
    };
    let heed = move |event: notify::Result<notify::Event>| {
        // To be read is no change; and whoever does not listen any more has ended.
        if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
            let _ = signals.send(Signal::Saved);
        }
    };
    let mut watcher = notify::recommended_watcher(heed).map_err(failed)?;
    watcher.watch(folder, RecursiveMode::Recursive).map_err(failed)?;
    Ok(watcher)
}

/// Hands on what is typed, on a thread that ends with the program.
fn listen(signals: Sender<Signal>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if signals.send(Signal::Typed(line)).is_err() {
                return;
            }
        }
        let _ = signals.send(Signal::Ended);
    });
}

struct Bench<'c> {
    tryout: Tryout,
    runtime: tokio::runtime::Runtime,
    context: &'c Context,
}

impl Bench<'_> {
    fn run(&self, yes: bool, waiting: &Receiver<Signal>) -> Result<Outcome, Failure> {
        let mut allowed = self.tryout.plugin()?.permissions;
        self.load("loaded")?;
        self.context.console.note(HELP);
        while let Ok(signal) = waiting.recv() {
            match signal {
                Signal::Ended => break,
                Signal::Saved => {
                    settle(waiting, self)?;
                    self.tryout.plugins.refresh();
                    let plugin = self.tryout.plugin()?;
                    let more: Vec<&Permission> =
                        plugin.permissions.iter().filter(|power| !allowed.contains(power)).collect();
                    if !more.is_empty() && !yes {
                        self.say(&format!("{} wants more than before:\n", plugin.name))?;
                        more.iter()
                            .try_for_each(|power| self.say(&format!("  - {}\n", power.description())))?;
                        self.say("/reload lets it; until then it does not run\n")?;
                        continue;
                    }
                    self.load("reloaded")?;
                }
                Signal::Typed(line) => match line.trim() {
                    "" => {}
                    "/quit" | "/exit" => break,
                    "/reload" => {
                        self.tryout.plugins.refresh();
                        allowed = self.tryout.plugin()?.permissions;
                        self.load("reloaded")?;
                    }
                    line => self.answer(line)?,
                },
            }
        }
        self.runtime.block_on(self.tryout.plugins.on_exit(self.tryout.session));
        Ok(Outcome::Done)
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.context.console.print(&plain::block(text))
    }

    /// Starts the plugin as it is now, and says what became of it.
    fn load(&self, verb: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        match self.runtime.block_on(self.tryout.start()) {
            Ok(plugin) => {
                let milliseconds = begin.elapsed().as_secs_f64() * 1000.0;
                self.say(&format!("{verb} {} in {milliseconds:.0} ms: {}\n", plugin.name, summary(&plugin)))?;
                plugin.warnings.iter().try_for_each(|warning| self.say(&format!("  {warning}\n")))?;
                self.runtime.block_on(self.tryout.plugins.on_start(self.tryout.session));
                self.notices()
            }
            Err(failure) => self.say(&format!("does not run: {failure}\n")),
        }
    }

    fn answer(&self, line: &str) -> Result<(), Failure> {
        let plugins = &self.tryout.plugins;
        match line.strip_prefix('/') {
            Some("log") => {
                let lines = plugins.log(&self.tryout.plugin()?.name, 20)?;
                lines.iter().try_for_each(|line| self.say(&format!("{line}\n")))?;
            }
            Some("widgets") => self.widgets()?,
            Some(command) => {
                let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
                match self.runtime.block_on(plugins.run(name, rest, Some(self.tryout.session))) {
                    Ok(Some(text)) => self.say(&format!("{}\n", text.trim_end()))?,
                    Ok(None) => self.say("(done)\n")?,
                    Err(error) => self.say(&format!("{error}\n"))?,
                }
            }
            None => {
                let told = match self.runtime.block_on(plugins.on_message(self.tryout.session, line, true)) {
                    Verdict::Pass => "passes as it is".to_owned(),
                    Verdict::Replace(text) => format!("becomes: {text}"),
                    Verdict::Reject { plugin, reason } => format!("stopped by {plugin}: {reason}"),
                };
                self.say(&format!("{told}\n"))?;
            }
        }
        self.notices()
    }

    fn widgets(&self) -> Result<(), Failure> {
        let plugins = &self.tryout.plugins;
        let known = self.tryout.failures()?.len();
        let _ = plugins.widgets(Some(self.tryout.session));
        // They are drawn by the plugin's own thread, in its own time.
        thread::sleep(Duration::from_millis(200));
        for picture in plugins.widgets(Some(self.tryout.session)) {
            let place = match picture.slot {
                Slot::Sidebar => "sidebar",
                Slot::StatusBar => "status bar",
                Slot::Panel => "panel",
            };
            self.say(&format!("{}\n", format!("{place}: {}", picture.title).trim_end_matches([':', ' '])))?;
            picture.nodes.iter().try_for_each(|node| self.say(&format!("  {}\n", shown(node))))?;
        }
        self.tryout.failures()?.iter().skip(known).try_for_each(|told| self.say(&format!("! {told}\n")))
    }

    fn notices(&self) -> Result<(), Failure> {
        self.tryout.plugins.take_notices().iter().try_for_each(|notice| self.say(&format!("! {notice}\n")))
    }
}

/// Waits until the files are at rest. What is typed meanwhile is answered by the plugin as it was.
fn settle(waiting: &Receiver<Signal>, bench: &Bench<'_>) -> Result<(), Failure> {
    loop {
        match waiting.recv_timeout(REST) {
            Ok(Signal::Saved) => {}
            Ok(Signal::Typed(line)) => bench.answer(line.trim())?,
            Ok(Signal::Ended) | Err(_) => return Ok(()),
        }
    }
}

fn summary(plugin: &PluginStatus) -> String {
    let parts = plugin.permissions.iter().filter_map(|power| match power {
        Permission::Export(export) => Some(export.as_str()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn shown(node: &Node) -> String {
    match node {
        Node::Text(spans) => spans.iter().map(|(text, _)| text.as_str()).collect(),
        Node::Gauge { label, ratio } => format!("{label} {:.0} %", ratio * 100.0),
        Node::Table { header, rows } => {
            let lines = std::iter::once(header).chain(rows).filter(|row| !row.is_empty());
            lines.map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n  ")
        }
        Node::Sparkline { values } => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}
