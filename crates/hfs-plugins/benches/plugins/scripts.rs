//! Plugins that are source, beside the same in WebAssembly, in a Python process of its own, and in one that is spawned.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hfs_core::SessionId;
use hfs_plugins::{Language, Plugins};
use testkit::bench::{Bench, Target, Unit};
use tokio::runtime::Runtime;

use crate::fixture::{APPEND, HOOKS, Home, message_component};
use crate::{MESSAGES, bench_rounds, median, spawned, through};

/// What does the work in each language, and in how many microseconds a message has to be through.
const PLUGINS: [(Language, &str, &str, u64); 2] = [
    (Language::Python, "plugin.py", "def on_message(message):\n    return message + '!'\n", 60),
    (Language::JavaScript, "plugin.js", "export const onMessage = (text) => text + '!';\n", 500),
];

/// The same with pluggy in one process; prints seconds for each call.
const PLUGGY: &str = "
import sys, time, pluggy
spec, impl = pluggy.HookspecMarker('hfs'), pluggy.HookimplMarker('hfs')
class Spec:
    @spec(firstresult=True)
    def on_message(self, message, is_user): ...
class Plugin:
    @impl
    def on_message(self, message, is_user): return message + '!'
manager = pluggy.PluginManager('hfs')
manager.add_hookspecs(Spec)
manager.register(Plugin())
text, times = sys.stdin.read(), int(sys.argv[1])
for _ in range(2):
    begin = time.perf_counter()
    for _ in range(times): manager.hook.on_message(message=text, is_user=True)
    spent = time.perf_counter() - begin
print(spent / times)
";

pub fn run(bench: &mut Bench, runtime: &Runtime, text: &str) {
    for (language, file, source, limit) in PLUGINS {
        let Some(home) = Home::with(language) else { continue };
        home.add_source("p", HOOKS, &[(file, source)]);
        let plugins = runtime.block_on(home.begin(&["p"]));
        messages(bench, runtime, language, &plugins, text, Duration::from_micros(limit));
        drop(plugins);
        start(bench, runtime, language, &home);
    }
}

fn messages(
    bench: &mut Bench,
    runtime: &Runtime,
    language: Language,
    plugins: &Plugins,
    text: &str,
    limit: Duration,
) {
    let session = SessionId::generate();
    let work = bench.size(MESSAGES, 2);
    let ours = || (0..work).for_each(|_| through(plugins, runtime, session, text));
    let compiled = Home::new();
    compiled.add("p", HOOKS, &message_component("", APPEND));
    let beside = runtime.block_on(compiled.begin(&["p"]));
    bench
        .pair(&format!("{language}: on_message of 1 KB beside a compiled plugin"))
        .work(work, work)
        .median(Target::Under(limit))
        .run(ours, || (0..work).for_each(|_| through(&beside, runtime, session, text)));
    let python = Command::new("python3").arg("--version").output().is_ok();
    if python {
        let program = "import sys; sys.stdout.write(sys.stdin.read() + '!')";
        let faster = if language == Language::Python { 500.0 } else { 50.0 };
        bench
            .pair(&format!("{language}: on_message of 1 KB beside a spawned python3"))
            .work(work, 1)
            .rounds(bench_rounds())
            .median(Target::SpeedAtLeast(faster))
            .run(ours, || spawned("python3", &["-c", program], text));
    }
    let row = format!("{language}: on_message of 1 KB beside pluggy in one process");
    if bench.wants(&row)
        && let Some(pluggy) = pluggy(bench.size(20_000, 10), text)
    {
        let begin = Instant::now();
        (0..work * 10).for_each(|_| through(plugins, runtime, session, text));
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let each = begin.elapsed().as_secs_f64() / (work * 10) as f64;
        bench.amounts(&row, each, pluggy, Unit::Seconds, Target::Under(limit));
    }
}

/// Seconds for one call, where there is a Python with pluggy: the interpreters' builder has one.
fn pluggy(times: usize, text: &str) -> Option<f64> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/runtimes/python/tools/bin/python");
    let told = spawned(tools.to_str()?, &["-c", PLUGGY, &times.to_string()], text);
    told.trim().parse().ok()
}

/// From nothing to a plugin that answers, its interpreter's machine code being in its place.
fn start(bench: &mut Bench, runtime: &Runtime, language: Language, home: &Home) {
    let row = format!("{language}: start from cache, until the plugin runs");
    if !bench.wants(&row) {
        return;
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let empty = Home::new();
    for _ in 0..bench.size(15, 1) {
        let begin = Instant::now();
        let plugins = Plugins::begin(home.parts());
        runtime.block_on(plugins.started());
        with.push(begin.elapsed());
        assert_eq!(plugins.list()[0].state.as_str(), "active");
        let begin = Instant::now();
        let plugins = Plugins::begin(empty.parts());
        runtime.block_on(plugins.started());
        without.push(begin.elapsed());
    }
    let limit = Target::Under(Duration::from_millis(10));
    bench.amounts(&row, median(&mut with), median(&mut without), Unit::Seconds, limit);
}
