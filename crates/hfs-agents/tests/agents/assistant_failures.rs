//! What an assistant does when something goes wrong.

use std::time::Duration;

use hfs_agents::{Assistant, ModelConfig, Provider};
use hfs_core::{AgentError, Clock, ErrorExt, ErrorKind, SystemClock};
use testkit::model_server::{ModelServer, Protocol, Script};

use crate::support::{AT_ONCE, KEY, arrived, config, question, run, run_and_cancel};

fn assistant(server: &ModelServer, protocol: Protocol) -> Assistant {
    Assistant::new(config(server, protocol))
}

#[tokio::test]
async fn an_overloaded_provider_is_asked_again_until_it_answers() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::status(429, "slow down")).then(Script::status(503, "overloaded"));
        server.then(Script::text("here"));
        let (heard, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
        assert_eq!(heard.text(), "here");
        assert_eq!(server.requests().len(), 3);
        let errors = heard.errors();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("slow down") && errors[0].contains("trying again"), "{errors:?}");
    }
}

#[tokio::test]
async fn a_provider_that_stays_down_is_an_error_in_its_own_words() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(500, "the hamster is asleep"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the hamster is asleep"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_pause_that_is_asked_for_in_seconds_is_kept() {
    let server = ModelServer::start();
    server.then(Script::status(429, "slow down").header("retry-after", "1"));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_date_before_which_not_to_come_back_is_kept() {
    let server = ModelServer::start();
    let then = SystemClock.now().to_jiff() + jiff::SignedDuration::from_secs(2);
    let mut date = String::new();
    jiff::fmt::rfc2822::DateTimePrinter::new().print_timestamp_rfc9110(&then, &mut date).unwrap();
    server.then(Script::status(429, "slow down").header("retry-after", date.as_str()));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(server.requests().len(), 2);
    assert!(SystemClock.now().to_jiff().as_second() >= then.as_second());
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_told_instead_of_waited_for() {
    let server = ModelServer::start();
    server.then(Script::status(429, "come back tomorrow").header("retry-after", "86400"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let Err(AgentError::Unavailable { retry_after, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(86_400)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_key_is_not_tried_again_and_not_repeated() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::status(401, &format!("invalid key {KEY}")));
        let (heard, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{protocol:?}");
        let shown = format!("{error} {error:?} {:?} {:?}", error.hint(), heard.errors());
        assert!(shown.contains("invalid key [key]"), "{shown}");
        assert!(!shown.contains(KEY), "{shown}");
        assert!(error.hint().is_some());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sent_and_the_hint_names_the_variable() {
    let assistant = Assistant::new(ModelConfig::new(Provider::Gemini, "m", None));
    let (_, outcome) = run(&assistant, question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.hint().unwrap().contains("GEMINI_API_KEY"));
}

#[tokio::test]
async fn a_rejected_request_is_told_in_the_providers_words() {
    let server = ModelServer::start();
    server.then(Script::status(404, "model test-model does not exist"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("model test-model does not exist"), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_cut_keeps_what_had_arrived() {
    for protocol in Protocol::ALL {
        for script in
            [Script::pieces(["half ", "a "]).then_break(), Script::pieces(["half ", "a "]).then_stop()]
        {
            let server = ModelServer::start();
            server.then(script);
            let (heard, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{protocol:?}: {error}");
            assert_eq!(heard.text(), "half a ", "{protocol:?}");
            assert_eq!(server.requests().len(), 1, "{protocol:?}: nothing may be said twice");
            assert_eq!(heard.kinds(), ["agent.started", "error.occurred", "agent.ended"]);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_before_its_first_word_is_asked_for_again() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::pieces(Vec::<String>::new()).then_break()).then(Script::text("whole"));
        let (heard, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(outcome.is_ok(), "{protocol:?}: {outcome:?}");
        assert_eq!(heard.text(), "whole");
    }
}

#[tokio::test]
async fn a_malformed_piece_keeps_what_had_arrived() {
    for protocol in Protocol::ALL {
        let server = ModelServer::start();
        server.then(Script::text("so far ").then_garbage().then_text("lost"));
        let (heard, outcome) = run(&assistant(&server, protocol), question("hello?")).await;
        assert!(matches!(outcome, Err(AgentError::Malformed { .. })), "{protocol:?}: {outcome:?}");
        assert_eq!(heard.text(), "so far ", "{protocol:?}");
    }
}

#[tokio::test]
async fn an_answer_without_a_word_is_an_error_that_gives_the_reason() {
    let server = ModelServer::start();
    server.then(Script::pieces(Vec::<String>::new()).stop_reason("content_filter"));
    let (_, outcome) = run(&assistant(&server, Protocol::OpenAi), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("content_filter"));
}

#[tokio::test]
async fn nobody_listening_is_an_error_that_names_the_address() {
    let server = ModelServer::start();
    let config = config(&server, Protocol::OpenAi);
    let address = server.base_url();
    drop(server);
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(address.trim_start_matches("http://")), "{error}");
    assert!(error.to_string().contains("no connection"), "{error}");
}

#[tokio::test]
async fn a_silent_provider_is_given_up_after_the_time_for_its_first_byte() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::silence());
    let mut config = config(&server, Protocol::OpenAi);
    config.timeouts.first_byte = Duration::from_millis(50);
    config.retries.attempts = 2;
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("no answer within 50ms"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_stream_that_stalls_is_given_up_and_keeps_what_had_arrived() {
    let server = ModelServer::start();
    server.then(Script::text("so far").then_hang());
    let mut config = config(&server, Protocol::Anthropic);
    config.timeouts.idle = Duration::from_millis(100);
    let (heard, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert!(outcome.unwrap_err().to_string().contains("nothing more came"));
    assert_eq!(heard.text(), "so far");
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_an_error() {
    let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
    config.base_url = Some("not an address".into());
    let (_, outcome) = run(&Assistant::new(config), question("hello?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_that_the_key_stays_here() {
    let other = ModelServer::start();
    let server = ModelServer::start();
    server.then(Script::status(307, "moved").header("location", format!("{}/v1/messages", other.base_url())));
    let (_, outcome) = run(&assistant(&server, Protocol::Anthropic), question("hello?")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_cancel_is_obeyed_at_once_wherever_the_provider_is() {
    // Before an answer, in the middle of one, and in the pause before another attempt.
    let server = ModelServer::start();
    server.then(Script::silence());
    let agent = assistant(&server, Protocol::OpenAi);
    let (_, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |_| arrived(&server, 1).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < AT_ONCE, "{took:?}");

    server.then(Script::text("half").then_hang());
    let (heard, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |heard| heard.first_piece.notified().await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(heard.text(), "half");
    assert_eq!(heard.kinds(), ["agent.started", "agent.ended"]);

    server.then(Script::status(429, "later").header("retry-after", "2"));
    let (_, outcome, took) =
        run_and_cancel(&agent, question("hello?"), async |_| arrived(&server, 3).await).await;
    assert!(matches!(outcome, Err(AgentError::Cancelled)), "{outcome:?}");
    assert!(took < AT_ONCE, "{took:?}");
}
