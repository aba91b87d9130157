//! No process outlives the agent, and none outlives hfs.

use testkit::acp_agent::is_running;

use super::*;

async fn all_end(script: &ScriptedProgram, count: usize) {
    let started = Instant::now();
    loop {
        let processes = script.processes();
        if processes.len() == count && !processes.iter().any(|process| is_running(*process)) {
            return;
        }
        assert!(started.elapsed() < SOON, "still running of {processes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_an_agent_has_started_ends_with_it() {
    let mut conversation =
        Conversation::new(&prompts(json!([[{"spawn": true}, chunk("started"), {"exit": 0}]])));
    conversation.say("go").await;
    all_end(&conversation.script, 2).await;
}

#[tokio::test]
async fn closing_an_agent_ends_it_and_what_it_has_started() {
    let mut conversation = Conversation::new(&prompts(json!([[{"spawn": true}, chunk("started")]])));
    conversation.say("go").await.ok();
    conversation.agent.close().await;
    all_end(&conversation.script, 2).await;
}

#[tokio::test]
async fn dropping_an_agent_ends_it_and_what_it_has_started() {
    let mut conversation = Conversation::new(&prompts(json!([[{"spawn": true}, chunk("started")]])));
    conversation.say("go").await.ok();
    let script = Arc::clone(&conversation.script);
    drop(conversation);
    all_end(&script, 2).await;
}

/// The variable that makes this test the process that is killed, with the folder for its agent's log.
const VICTIM: &str = "HFS_ACP_VICTIM";

#[test]
fn victim() {
    let Some(script) = std::env::var_os(VICTIM) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _ = runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let words: Vec<String> = serde_json::from_str(&script.into_string().unwrap()).unwrap();
        let (program, arguments) = words.split_first().unwrap();
        let policy = Arc::new(FixedPolicy { answer: Some(true), asked: Mutex::default() });
        let agent = AcpAgent::new(
            Launch {
                agent: "scripted".into(),
                program: program.into(),
                arguments: arguments.to_vec(),
                environment: environment([], |name| std::env::var(name).ok()),
                directory: folder.path().to_owned(),
                log: folder.path().join("log"),
                supervisor: vec![env!("CARGO_BIN_EXE_supervise-agent").into()],
            },
            Vec::new(),
            None,
            policy,
            Arc::new(MemoryAttachments::default()),
        );
        let branch = BranchId::generate();
        let content = MessageDraft::user("go", Timestamp::UNIX_EPOCH);
        let history = vec![Message { branch, seq: 1, content }];
        agent
            .run(
                RunRequest::new(RunId::generate(), SessionId::generate(), branch, history),
                &CollectingSink::new(),
            )
            .await
    });
}

#[tokio::test]
async fn no_process_is_left_after_kill_9_of_hfs() {
    // The agent does not read its input any more, so it would not notice by itself.
    let script = ScriptedProgram::new(&prompts(json!([[{"spawn": true}, {"hang": true}]])));
    let (program, arguments) = script.command(AGENT_TEST);
    let mut words = vec![program.to_str().unwrap().to_owned()];
    words.extend(arguments);
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::victim", "--nocapture"])
        .env(VICTIM, serde_json::to_string(&words).unwrap())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while script.processes().len() < 2 {
        assert!(started.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    all_end(&script, 2).await;
}
