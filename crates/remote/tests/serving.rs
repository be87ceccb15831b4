//! A served model, through every trouble that a server can make.

mod stub;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use noisegate_remote::{
    Answer, Call, Endpoint, Error, Finish, Journal, Question, Secret, Usage, ask,
};
use stub::{Reply, Seen, Stub};

type Respond = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

const KEY: &str = "sk-very-secret-0123456789";

struct Desk {
    folder: tempfile::TempDir,
    endpoint: Endpoint,
    key: Option<Secret>,
    cancel: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Asked {
    answers: Vec<Answer>,
    usage: Usage,
}

impl Desk {
    fn at(stub: &Stub) -> Self {
        let settings = serde_json::json!({ "url": stub.url, "model": "m", "concurrency": 4, "timeout_seconds": 2, "retries_max": 2 });
        Self {
            folder: tempfile::tempdir().unwrap(),
            endpoint: serde_json::from_value(settings).unwrap(),
            key: Some(Secret::new(KEY.to_owned()).unwrap()),
            cancel: Arc::default(),
        }
    }

    fn ask(&self, questions: &[Question]) -> Result<Asked, Error> {
        let mut usage = Usage::default();
        let answers = self.ask_and_count(questions, &mut usage)?;
        Ok(Asked { answers, usage })
    }

    fn ask_and_count(
        &self,
        questions: &[Question],
        usage: &mut Usage,
    ) -> Result<Vec<Answer>, Error> {
        let mut journal = Journal::open(&self.folder.path().join("journal.jsonl")).unwrap();
        ask(
            questions,
            Call {
                endpoint: &self.endpoint,
                key: self.key.as_ref(),
                journal: &mut journal,
                usage,
                progress: &mut |_, _| (),
                cancel: &self.cancel,
            },
        )
    }

    /// The message of a failure, which must not hold the key or the prompt.
    fn refusal(&self) -> String {
        let error = self.ask(&questions(1)).unwrap_err();
        let texts = format!("{error} {error:?}");
        assert!(
            !texts.contains(KEY) && !texts.contains("prompt number"),
            "{texts}"
        );
        error.to_string()
    }
}

fn questions(count: usize) -> Vec<Question> {
    let make = |number| Question {
        prompt: format!("prompt number {number}"),
        chat: number % 2 == 1,
        tokens_max: 16,
        temperature: 0.9,
        top_p: Some(0.95),
        stop: vec!["\n".to_owned()],
        seed: number as u64,
    };
    (0..count).map(make).collect()
}

fn prompt(seen: &Seen) -> String {
    let chat = seen.body.pointer("/messages/0/content");
    chat.unwrap_or(&seen.body["prompt"])
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn texts(answers: &[Answer]) -> Vec<&str> {
    answers.iter().map(|answer| answer.text.as_str()).collect()
}

#[test]
fn answers_come_in_the_order_of_the_questions_with_few_under_way_at_once() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    let stub = Stub::start(move |number, seen| {
        peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30 - number as u64));
        counted.fetch_sub(1, Ordering::SeqCst);
        Reply::answer(seen, &prompt(seen).to_uppercase())
    });
    let asked = Desk::at(&stub).ask(&questions(12)).unwrap();
    let expected: Vec<String> = (0..12).map(|n| format!("PROMPT NUMBER {n}")).collect();
    assert_eq!(texts(&asked.answers), expected);
    assert_eq!((asked.usage.answered, asked.usage.retries), (12, 0));
    assert_eq!(
        (asked.usage.prompt_tokens, asked.usage.answer_tokens),
        (120, 36)
    );
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    for seen in stub.seen() {
        assert_eq!(
            seen.header("authorization"),
            Some(format!("Bearer {KEY}").as_str())
        );
        assert!(!seen.body.to_string().contains(KEY));
        assert_eq!(seen.body["model"], "m");
    }
}

#[test]
fn passing_troubles_are_waited_out() {
    let stub = Stub::start(|number, seen| match number {
        0 => Reply {
            headers: vec![("Retry-After", "0".to_owned())],
            ..Reply::new(429, "slow down")
        },
        1 => Reply::new(503, "{\"error\":{\"message\":\"loading\"}}"),
        2 => Reply::new(200, "<html>a proxy's page</html>"),
        3 => Reply::new(200, b"{\"choices\":\xff\xfe}".to_vec()),
        4 => Reply {
            cut: Some(5),
            ..Reply::answer(seen, "cut")
        },
        _ => Reply::answer(seen, "fine"),
    });
    let desk = Desk::at(&stub);
    let patient = Desk {
        endpoint: Endpoint {
            retries_max: 5,
            ..desk.endpoint.clone()
        },
        ..desk
    };
    let asked = patient.ask(&questions(1)).unwrap();
    assert_eq!(texts(&asked.answers), ["fine"]);
    assert_eq!((asked.usage.retries, stub.seen().len()), (5, 6));
}

#[test]
fn each_lasting_trouble_is_named_with_its_remedy_and_asked_about_once() {
    for (status, body, words) in [
        (
            401,
            format!("{{\"error\":{{\"message\":\"Incorrect API key: {KEY}\"}}}}"),
            "refused the key (HTTP 401); check the key",
        ),
        (403, String::new(), "refused the key (HTTP 403)"),
        (
            404,
            "{\"message\":\"no model m\"}".to_owned(),
            "serves no model `m` (HTTP 404), saying \"no model m\"; check the endpoint's `url`",
        ),
        (
            400,
            format!("{{\"detail\":\"too long for {KEY}\"}}"),
            "saying \"too long for [key]\"; compare the step's parameters",
        ),
        (
            307,
            String::new(),
            "redirects elsewhere (HTTP 307), which is never followed",
        ),
    ] {
        let stub = Stub::start(move |_, _| Reply {
            headers: vec![("Location", "http://127.0.0.1:1/elsewhere".to_owned())],
            ..Reply::new(status, body.clone())
        });
        let message = Desk::at(&stub).refusal();
        assert!(message.contains(words), "{message}");
        assert_eq!(stub.seen().len(), 1, "{status}");
    }
}

#[test]
fn without_a_key_a_denial_says_how_to_name_one() {
    let stub = Stub::start(|_, _| Reply::new(401, ""));
    let desk = Desk {
        key: None,
        ..Desk::at(&stub)
    };
    assert!(
        desk.refusal()
            .contains("name the key's environment variable in the endpoint's `key_env`")
    );
    assert_eq!(stub.seen()[0].header("authorization"), None);
}

#[test]
fn each_passing_trouble_that_does_not_pass_is_named_with_its_remedy() {
    let quick = |stub: &Stub| {
        let desk = Desk::at(stub);
        let endpoint = Endpoint {
            retries_max: 1,
            timeout_seconds: 1,
            ..desk.endpoint.clone()
        };
        Desk { endpoint, ..desk }
    };
    let cases: [(Respond, &str); 5] = [
        (
            Box::new(|_| Reply::new(429, "")),
            "asked too often (HTTP 429), lower the endpoint's `concurrency`",
        ),
        (
            Box::new(|_| Reply::new(500, "out of memory")),
            "trouble of its own (HTTP 500), saying \"out of memory\"",
        ),
        (
            Box::new(|_| Reply::new(200, "{}")),
            "not in the OpenAI format (it lacks `choices`)",
        ),
        (
            Box::new(|seen| Reply {
                delay: Duration::from_secs(2),
                ..Reply::answer(seen, "late")
            }),
            "no answer within 1 s, raise the endpoint's `timeout_seconds`",
        ),
        (
            Box::new(|seen| Reply {
                cut: Some(9),
                ..Reply::answer(seen, "cut")
            }),
            "in 2 attempts",
        ),
    ];
    for (respond, words) in cases {
        let stub = Stub::start(move |_, seen| respond(seen));
        let message = quick(&stub).refusal();
        assert!(
            message.contains(words) && message.contains("asks only for the rest"),
            "{message}"
        );
        assert_eq!(stub.seen().len(), 2);
    }
    // A port where nobody listens.
    let stub = Stub::start(|_, seen| Reply::answer(seen, ""));
    let desk = quick(&stub);
    let gone = Desk {
        endpoint: Endpoint {
            url: "http://127.0.0.1:9/v1".to_owned(),
            ..desk.endpoint.clone()
        },
        ..desk
    };
    let message = gone.refusal();
    assert!(
        message.contains("no connection") && message.contains("check that it runs"),
        "{message}"
    );
}

#[test]
fn after_a_failure_only_what_is_missing_is_asked_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&broken);
    let stub = Stub::start(move |_, seen| {
        if flag.load(Ordering::SeqCst) && prompt(seen).ends_with('7') {
            return Reply::new(400, "the seventh is too long");
        }
        Reply::answer(seen, &prompt(seen))
    });
    let desk = Desk::at(&stub);
    let mut failed = Usage::default();
    desk.ask_and_count(&questions(10), &mut failed).unwrap_err();
    assert_eq!(failed.prompt_tokens, 10 * failed.answered as u64);
    let before = stub.seen().len();
    assert!((7..=10).contains(&before), "{before}");
    broken.store(false, Ordering::SeqCst);
    let asked = desk.ask(&questions(10)).unwrap();
    assert_eq!(asked.usage.answered + asked.usage.remembered, 10);
    assert!(asked.usage.remembered >= 7 - 4, "{:?}", asked.usage);
    assert_eq!(failed.answered, asked.usage.remembered);
    assert_eq!(stub.seen().len(), before + asked.usage.answered);
    // And a third time the server is not needed at all.
    let again = desk.ask(&questions(10)).unwrap();
    assert_eq!((again.usage.answered, again.usage.remembered), (0, 10));
    // What the answers took is told whole, and how much of it is new.
    for (usage, now) in [(asked.usage, asked.usage.answered as u64), (again.usage, 0)] {
        assert_eq!((usage.prompt_tokens, usage.answer_tokens), (100, 30));
        let told = (usage.prompt_tokens_now, usage.answer_tokens_now);
        assert_eq!(told, (10 * now, 3 * now));
    }
    assert_eq!(again.answers, asked.answers);
    // The journal knows answers, not keys.
    let journal = std::fs::read_to_string(desk.folder.path().join("journal.jsonl")).unwrap();
    assert!(journal.lines().count() >= 10 && !journal.contains(KEY));
}

#[test]
fn a_key_that_a_server_repeats_in_an_answer_goes_no_further() {
    let stub = Stub::start(|_, seen| {
        Reply::answer(
            seen,
            &format!("you sent {}", seen.header("authorization").unwrap()),
        )
    });
    let desk = Desk::at(&stub);
    let asked = desk.ask(&questions(2)).unwrap();
    assert_eq!(texts(&asked.answers), ["you sent Bearer [key]"; 2]);
    let journal = std::fs::read_to_string(desk.folder.path().join("journal.jsonl")).unwrap();
    assert!(!journal.contains(KEY), "{journal}");
}

#[test]
fn an_answer_of_a_server_that_heeds_nothing_is_cut_before_it_is_kept() {
    let stub = Stub::start(|number, seen| match number {
        0 => Reply::answer(seen, "one\u{1b}[2J\u{7}\ntwo\nthree"),
        _ => Reply::answer(seen, &"x".repeat(1_000_000)),
    });
    let desk = Desk::at(&stub);
    let first = desk.ask(&questions(1)).unwrap();
    assert_eq!(texts(&first.answers), ["one[2J"]);
    let asked = desk.ask(&questions(2)).unwrap();
    assert_eq!(asked.answers[0].finish, Finish::Stop);
    assert_eq!(asked.answers[1].text.len(), 16 * 64 + 4096);
    assert_eq!(asked.answers[1].finish, Finish::Length);
    let journal = std::fs::read_to_string(desk.folder.path().join("journal.jsonl")).unwrap();
    assert!(journal.len() < 8000 && !journal.contains("two"));
}

#[test]
fn an_answer_that_an_earlier_version_kept_is_cut_too() {
    let stub = Stub::start(|_, seen| Reply::answer(seen, "new"));
    let desk = Desk::at(&stub);
    let asked = questions(1);
    let kept = Answer {
        text: "one\u{1b}\ntwo".to_owned(),
        finish: Finish::Length,
        prompt_tokens: 1,
        answer_tokens: 1,
        model: "m".to_owned(),
    };
    let mut journal = Journal::open(&desk.folder.path().join("journal.jsonl")).unwrap();
    journal.add(asked[0].digest(&desk.endpoint), kept).unwrap();
    let answers = desk.ask(&asked).unwrap().answers;
    assert_eq!(
        (answers[0].text.as_str(), answers[0].finish),
        ("one", Finish::Stop)
    );
}

#[test]
fn a_body_far_larger_than_the_answer_asked_for_is_not_read_to_its_end() {
    let stub = Stub::start(|_, seen| Reply::answer(seen, &"x".repeat(2 << 20)));
    let desk = Desk::at(&stub);
    let once = Desk {
        endpoint: Endpoint {
            retries_max: 0,
            ..desk.endpoint.clone()
        },
        ..desk
    };
    let message = once.refusal();
    let said = "it is larger than 1064960 bytes, more than an answer to this question needs";
    assert!(message.contains(said), "{message}");
}

#[test]
fn no_count_and_no_setting_makes_a_sum_wrap_or_a_worker_panic() {
    let stub = Stub::start(|_, _| {
        let usage = r#"{"choices":[{"text":"a"}],
            "usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}}"#;
        Reply::new(200, usage)
    });
    let desk = Desk::at(&stub);
    for _ in 0..2 {
        let usage = desk.ask(&questions(2)).unwrap().usage;
        assert_eq!(
            (usage.prompt_tokens, usage.answer_tokens),
            (u64::MAX, u64::MAX)
        );
    }
    for (timeout_seconds, retries_max) in [(u64::MAX, 0), (1, u32::MAX)] {
        let desk = Desk {
            endpoint: Endpoint {
                timeout_seconds,
                retries_max,
                ..desk.endpoint.clone()
            },
            ..Desk::at(&stub)
        };
        assert!(desk.refusal().contains("write a number from"));
    }
}

#[test]
fn an_answer_without_text_is_an_answer() {
    let stub = Stub::start(|_, _| {
        let thought = r#"{"choices":[{"message":{"content":null,"reasoning_content":"Hm"},"finish_reason":"length"}],
            "usage":{"prompt_tokens":10,"completion_tokens":16}}"#;
        Reply::new(200, thought)
    });
    let asked = Desk::at(&stub).ask(&questions(2)).unwrap();
    assert_eq!(texts(&asked.answers), ["", ""]);
    assert_eq!((asked.usage.answer_tokens, stub.seen().len()), (32, 2));
}

#[test]
fn a_raised_flag_stops_within_a_second_though_a_request_hangs() {
    let stub = Stub::start(|_, seen| Reply {
        delay: Duration::from_secs(20),
        ..Reply::answer(seen, "late")
    });
    let desk = Desk::at(&stub);
    let desk = Desk {
        endpoint: Endpoint {
            timeout_seconds: 30,
            ..desk.endpoint.clone()
        },
        ..desk
    };
    let cancel = Arc::clone(&desk.cancel);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.store(true, Ordering::SeqCst);
    });
    let began = Instant::now();
    assert!(matches!(desk.ask(&questions(3)), Err(Error::Cancelled)));
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// `NOISEGATE_TEST_ENDPOINT=http://127.0.0.1:8000/v1 NOISEGATE_TEST_MODEL=NAME cargo test …`, for
/// instance with `python -m llama_cpp.server --model FILE.gguf` running.
#[test]
fn a_real_server_answers_where_one_is_named() {
    let Ok(url) = std::env::var("NOISEGATE_TEST_ENDPOINT") else {
        println!("skipped: `NOISEGATE_TEST_ENDPOINT` names no server");
        return;
    };
    let stub = Stub::start(|_, seen| Reply::answer(seen, ""));
    let desk = Desk::at(&stub);
    let model = std::env::var("NOISEGATE_TEST_MODEL").unwrap_or_default();
    let endpoint = Endpoint {
        url,
        model,
        timeout_seconds: 120,
        ..desk.endpoint.clone()
    };
    let desk = Desk { endpoint, ..desk };
    let asked = desk.ask(&questions(6)).unwrap();
    assert_eq!(asked.answers.len(), 6);
    assert!(asked.usage.prompt_tokens > 0 && asked.usage.answer_tokens > 0);
    // The same questions again cost nothing.
    assert_eq!(desk.ask(&questions(6)).unwrap().answers, asked.answers);
}
