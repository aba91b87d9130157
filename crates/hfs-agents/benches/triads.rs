//! Duration of a run of six triads on a model with a fixed latency, compared with the longest chain of dependent calls
//! and with all calls in sequence. Also measures the processor time that hfs itself needs per call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic ends the benchmark"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_agents::{ModelConfig, Provider, TriadModels, Triads, TriadsConfig};
use hfs_core::{
    Agent, AgentMemory, BranchId, CompletedMessage, Event, EventPayload, Message, MessageDraft, NotPersisted,
    ReplyDelta, Role, RunId, RunRequest, RunSink, RunSnapshot, SessionId, Timestamp,
};
use testkit::bench::{Bench, Target, Unit};
use testkit::model_server::well_formed_answer;
use testkit::model_server::{ModelServer, Protocol};

#[derive(Default)]
struct EventLog(Mutex<Vec<EventPayload>>);

#[async_trait]
impl RunSink for EventLog {
    fn event(&self, payload: EventPayload) {
        self.0.lock().unwrap().push(payload);
    }

    fn reply(&self, _delta: ReplyDelta) {}

    fn next_message(&self, _completed: CompletedMessage, _next: Role) {}

    async fn persist(&self) -> Result<(), NotPersisted> {
        Ok(())
    }

    fn remember(&self, _agent: &str, _memory: AgentMemory) {}
}

fn request() -> RunRequest {
    let branch = BranchId::generate();
    let content = MessageDraft::user("Why is the sky blue?", Timestamp::UNIX_EPOCH);
    let history = vec![Message { branch, seq: 1, content }];
    RunRequest::new(RunId::generate(), SessionId::generate(), branch, history)
}

/// Measurements of a run.
struct MeasuredRun {
    wall: Duration,
    /// Processor time of the thread that runs the agents, on Linux.
    processor: Option<Duration>,
    snapshot: RunSnapshot,
}

/// The processor time of the current thread, if the system reports it.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn run(agent: &Triads, runtime: &tokio::runtime::Runtime) -> MeasuredRun {
    let log = EventLog::default();
    let (start, processor_start) = (Instant::now(), processor_time());
    runtime.block_on(agent.run(request(), &log)).expect("the run ends with a reply");
    let wall = start.elapsed();
    let processor = processor_time().zip(processor_start).map(|(end, start)| end.saturating_sub(start));
    let run = RunId::generate();
    let events: Vec<Event> = (1..)
        .zip(log.0.into_inner().unwrap())
        .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
        .collect();
    MeasuredRun { wall, processor, snapshot: RunSnapshot::fold(&events) }
}

/// Number of calls in the longest chain of dependent calls: four of a dialectic triad, one for each round, one of the
/// arbiter, one of a writer (here no agent has more than one section) and one of the integrator.
fn longest_chain(snapshot: &RunSnapshot) -> u32 {
    let arbiter = snapshot.negotiation.sections.iter().any(|section| section.arbiter.is_some());
    4 + snapshot.negotiation.round + u32::from(arbiter) + 1 + 1
}

fn calls(snapshot: &RunSnapshot) -> u32 {
    let calls: u64 = snapshot.usage.by_agent.values().map(|count| count.calls).sum();
    u32::try_from(calls).unwrap()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() -> ExitCode {
    let mut bench = Bench::from_args("triads");
    let latency = Duration::from_millis(bench.size(100, 1) as u64);
    let server = ModelServer::start();
    server.otherwise(move |asked| well_formed_answer(asked).after(latency));
    let mut model = ModelConfig::new(Provider::OpenAi, "bench", None);
    model.base_url = Some(server.url(Protocol::OpenAi));
    let config = TriadsConfig::from_yaml(TriadsConfig::STANDARD).unwrap();
    let agent =
        Triads::new(config, TriadModels::Online { default: model.into(), named: BTreeMap::new() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    // The first run creates the client and the connections.
    run(&agent, &runtime);
    let runs: Vec<MeasuredRun> = (0..bench.size(5, 1)).map(|_| run(&agent, &runtime)).collect();
    let (chain, calls) = (longest_chain(&runs[0].snapshot), calls(&runs[0].snapshot));
    let run_time = median(runs.iter().map(|run| run.wall).collect());
    let chain_time = (latency * chain).as_secs_f64();
    let row = format!("6 triads, {calls} calls of 100 ms, against the longest chain of {chain}");
    bench.amounts(&row, run_time, chain_time, Unit::Seconds, Target::AtMost(1.25));
    let sequential_time = (latency * calls).as_secs_f64();
    bench.amounts(
        "the same, against all calls in sequence",
        run_time,
        sequential_time,
        Unit::Seconds,
        Target::SpeedAtLeast(4.0),
    );
    let processor: Vec<Duration> = runs.iter().filter_map(|run| Some(run.processor? / calls)).collect();
    if !processor.is_empty() {
        let row = "processor time of the host per call, against 1 ms";
        bench.amounts(row, median(processor), 1e-3, Unit::Seconds, Target::AtMost(1.0));
    }
    bench.finish()
}
