//! Decisions: single cases, and against a naive model.

use cardinal_http::Method;
use cardinal_ir::policy::{Backoff, GrpcCode, RateLimitedBackoff, ResetHeader};
use proptest::prelude::*;
use proptest::{collection, option};

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_500);

fn request(method: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    head.method = Method::parse(method.as_bytes()).unwrap();
    headers.iter().for_each(|(name, value)| assert!(head.headers.append(name.as_bytes(), value.as_bytes())));
    head
}

fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.status = status;
    headers.iter().for_each(|(name, value)| assert!(head.headers.append(name.as_bytes(), value.as_bytes())));
    head
}

fn policy(conditions: &[RetryCondition]) -> Retry {
    Retry { attempts: 3, conditions: conditions.to_vec(), ..Retry::default() }
}

fn check(name: &str, value: HeaderValue) -> HeaderCheck {
    HeaderCheck { name: name.into(), value }
}

const fn failed(cause: Cause, unsent: bool) -> Attempt<'static> {
    Attempt::Failed { cause, unsent }
}

/// The decision for the first attempt of a request that can be sent again, with the largest random numbers.
fn decided(retry: &Retry, attempt: Attempt<'_>, request: &RequestHead) -> Option<(u64, &'static str)> {
    let situation = Situation { retries: 0, request, replayable: true, left_ms: None, now: NOW };
    decide(retry, attempt, &situation, |bound| bound.saturating_sub(1)).map(|delay| (delay.ms, delay.reason.label()))
}

#[test]
fn conditions_on_failures() {
    use RetryCondition as On;
    let all =
        [On::ConnectFailure, On::Reset, On::ResetBeforeRequest, On::RefusedStream, On::Timeout, On::PerTryTimeout];
    let get = request("GET", &[]);
    for (attempt, by, reason) in [
        (failed(Cause::Connect, true), &[On::ConnectFailure][..], "connect_failure"),
        (failed(Cause::Reset, true), &[On::Reset, On::ResetBeforeRequest, On::RefusedStream], "refused_stream"),
        (failed(Cause::Reset, false), &[On::Reset], "reset"),
        (failed(Cause::Timeout, false), &[On::Timeout], "timeout"),
        (failed(Cause::PerTryTimeout, false), &[On::Timeout, On::PerTryTimeout], "per_try_timeout"),
    ] {
        for condition in &all {
            let expect = by.contains(condition).then_some((0, reason));
            assert_eq!(
                decided(&policy(std::slice::from_ref(condition)), attempt, &get),
                expect,
                "{attempt:?} {condition:?}"
            );
        }
    }
}

#[test]
fn conditions_on_responses() {
    use RetryCondition as On;
    let get = request("GET", &[]);
    let header = |value| On::ResponseHeader(check("X-Retry", value));
    for (condition, status, headers, expect) in [
        (On::ServerError, 500, &[][..], Some("status")),
        (On::ServerError, 599, &[], Some("status")),
        (On::ServerError, 499, &[], None),
        (On::GatewayError, 502, &[], Some("status")),
        (On::GatewayError, 504, &[], Some("status")),
        (On::GatewayError, 501, &[], None),
        (On::GatewayError, 505, &[], None),
        (On::Retriable4xx, 409, &[], Some("status")),
        (On::Retriable4xx, 404, &[], None),
        (On::Status(418), 418, &[], Some("status")),
        (On::Status(418), 419, &[], None),
        (On::Status(101), 101, &[], None),
        (header(HeaderValue::Present), 200, &[("x-retry", "")], Some("header")),
        (header(HeaderValue::Present), 200, &[], None),
        (header(HeaderValue::Absent), 200, &[], Some("header")),
        (header(HeaderValue::Absent), 200, &[("x-retry", "1")], None),
        (header(HeaderValue::Exact("yes".into())), 200, &[("x-retry", "no"), ("x-retry", "yes")], Some("header")),
        (header(HeaderValue::Exact("yes".into())), 200, &[("x-retry", "yes!")], None),
        (header(HeaderValue::Prefix("yes".into())), 200, &[("x-retry", "yes!")], Some("header")),
        (header(HeaderValue::Prefix("yes".into())), 200, &[("x-retry", "ye")], None),
        (On::Grpc(GrpcCode::Unavailable), 200, &[("grpc-status", "14")], Some("grpc_status")),
        (On::Grpc(GrpcCode::Unavailable), 200, &[("grpc-status", "13")], None),
        (On::Grpc(GrpcCode::Cancelled), 200, &[("grpc-status", "1")], Some("grpc_status")),
        (On::Grpc(GrpcCode::DeadlineExceeded), 200, &[("grpc-status", "4")], Some("grpc_status")),
        (On::Grpc(GrpcCode::ResourceExhausted), 200, &[("grpc-status", "8")], Some("grpc_status")),
        (On::Grpc(GrpcCode::Internal), 200, &[("grpc-status", "13")], Some("grpc_status")),
        (On::Grpc(GrpcCode::Internal), 200, &[("grpc-status", "x")], None),
        (On::Reset, 503, &[], None),
    ] {
        let retry = policy(std::slice::from_ref(&condition));
        let response = response(status, headers);
        let decided = decided(&retry, Attempt::Response(&response), &get).map(|(_, reason)| reason);
        assert_eq!(decided, expect, "{condition:?} {status} {headers:?}");
        assert!(expect.is_none() || watches_responses(&retry), "{condition:?}");
    }
}

#[test]
fn methods_and_request_headers() {
    let mut retry = policy(&[RetryCondition::Reset, RetryCondition::Status(503)]);
    let (unavailable, listed) = (response(503, &[]), RetryMethods::Listed(vec!["PATCH".into(), "GET".into()]));
    for (methods, method, if_unsent, if_sent) in [
        (RetryMethods::Idempotent, "PUT", true, true),
        (RetryMethods::Idempotent, "POST", true, false),
        (RetryMethods::Any, "POST", true, true),
        (listed.clone(), "PATCH", true, true),
        (listed.clone(), "PUT", false, false),
        (listed, "POST", false, false),
    ] {
        retry.methods = methods;
        let request = request(method, &[]);
        let is_sent_again = |attempt| decided(&retry, attempt, &request).is_some();
        assert_eq!(is_sent_again(failed(Cause::Reset, true)), if_unsent, "{method} {:?}", retry.methods);
        assert_eq!(is_sent_again(failed(Cause::Reset, false)), if_sent, "{method} {:?}", retry.methods);
        assert_eq!(is_sent_again(Attempt::Response(&unavailable)), if_sent, "{method} {:?}", retry.methods);
        assert_eq!(may_repeat(&retry, &request), if_sent, "{method} {:?}", retry.methods);
    }
    retry.methods = RetryMethods::Any;
    retry.request_headers = vec![check("x-a", HeaderValue::Present), check("x-b", HeaderValue::Exact("1".into()))];
    for (headers, expect) in [(&[("X-A", "")][..], true), (&[("X-B", "1")], true), (&[("X-B", "2")], false)] {
        assert_eq!(
            decided(&retry, failed(Cause::Reset, true), &request("GET", headers)).is_some(),
            expect,
            "{headers:?}"
        );
    }
}

#[test]
fn waits_grow_and_are_random() {
    let mut retry = policy(&[RetryCondition::Reset]);
    retry.attempts = u16::MAX;
    retry.backoff = Backoff { base_ms: 25, max_ms: 0 };
    let get = request("GET", &[]);
    let bound = |retry: &Retry, retries| {
        let situation = Situation { retries, request: &get, replayable: true, left_ms: None, now: NOW };
        let mut bound = None;
        decide(retry, failed(Cause::Reset, false), &situation, |below| {
            bound = Some(below);
            0
        });
        bound
    };
    let bounds: Vec<_> = (0..6).map(|retries| bound(&retry, retries)).collect();
    assert_eq!(bounds, [25, 75, 175, 250, 250, 250].map(Some));
    assert_eq!(bound(&retry, u16::MAX - 1), Some(250));
    retry.backoff.max_ms = 60;
    assert_eq!((bound(&retry, 0), bound(&retry, 1)), (Some(25), Some(60)));
    retry.backoff = Backoff { base_ms: u64::MAX, max_ms: u64::MAX };
    assert_eq!(bound(&retry, 100), Some(u64::MAX));
}

#[test]
fn a_response_may_ask_for_a_wait() {
    let mut retry = policy(&[RetryCondition::Status(429)]);
    retry.backoff = Backoff { base_ms: 10, max_ms: 10 };
    let header = |name: &str, format| ResetHeader { name: name.into(), format };
    let headers =
        vec![header("Retry-After", ResetFormat::Seconds), header("X-RateLimit-Reset", ResetFormat::UnixTimestamp)];
    retry.rate_limited = Some(RateLimitedBackoff { headers, max_ms: 60_000 });
    let get = request("GET", &[]);
    for (headers, expect) in [
        (&[][..], 9),
        (&[("retry-after", "2")], 2_000 + 999),
        (&[("retry-after", "60")], 60_000 + 29_999),
        (&[("retry-after", "61")], 9),
        (&[("retry-after", "0")], 9),
        (&[("retry-after", "soon")], 9),
        (&[("retry-after", "-1")], 9),
        (&[("retry-after", "99999999999999999999")], 9),
        // NOW is half a second past this minute's 20th second.
        (&[("retry-after", "Tue, 14 Nov 2023 22:13:23 GMT")], 2_500 + 1_249),
        (&[("retry-after", "Tue, 14 Nov 2023 22:13:20 GMT")], 9),
        (&[("x-ratelimit-reset", "1700000001")], 500 + 249),
        (&[("x-ratelimit-reset", "1700000000")], 9),
        (&[("x-ratelimit-reset", "Tue, 14 Nov 2023 22:13:23 GMT")], 9),
        (&[("x-ratelimit-reset", "1700000001"), ("retry-after", "1")], 1_000 + 499),
        (&[("x-ratelimit-reset", "1700000001"), ("retry-after", "x")], 500 + 249),
    ] {
        let response = response(429, headers);
        assert_eq!(decided(&retry, Attempt::Response(&response), &get), Some((expect, "status")), "{headers:?}");
    }
}

#[test]
fn a_wait_that_would_outlast_the_request_is_not_begun() {
    let mut retry = policy(&[RetryCondition::Reset]);
    retry.backoff = Backoff { base_ms: 100, max_ms: 100 };
    let get = request("GET", &[]);
    let decided = |left_ms, random| {
        let situation = Situation { retries: 0, request: &get, replayable: true, left_ms, now: NOW };
        decide(&retry, failed(Cause::Reset, false), &situation, |_| random).map(|delay| delay.ms)
    };
    assert_eq!((decided(None, 99), decided(Some(51), 50), decided(Some(50), 50)), (Some(99), Some(50), None));
}

#[test]
fn failures_that_are_tried_again() {
    let failure = |kind, verdict| Failure::new(kind, "").with_retry(verdict);
    let seen = |kind, verdict, expired| match failed_attempt(&failure(kind, verdict), expired) {
        Some(Attempt::Failed { cause, unsent }) => Some((cause, unsent)),
        _ => None,
    };
    for kind in FailureKind::ALL {
        assert_eq!(seen(kind, Verdict::Never, None), None, "{kind:?}");
        let cause = match kind {
            FailureKind::UpstreamConnect | FailureKind::UpstreamConnectTimeout | FailureKind::UpstreamTls => {
                Some(Cause::Connect)
            }
            FailureKind::UpstreamReset => Some(Cause::Reset),
            FailureKind::UpstreamTimeout | FailureKind::UpstreamWriteTimeout => Some(Cause::Timeout),
            _ => None,
        };
        assert_eq!(seen(kind, Verdict::IfIdempotent, None), cause.map(|cause| (cause, false)), "{kind:?}");
        let local = (kind == FailureKind::Overloaded).then_some(Cause::Connect);
        assert_eq!(seen(kind, Verdict::Safe, None), cause.or(local).map(|cause| (cause, true)), "{kind:?}");
    }
    let late = |expiry| seen(FailureKind::UpstreamTimeout, Verdict::IfIdempotent, Some(expiry));
    for expiry in [Expiry::Request, Expiry::Idle, Expiry::Stream] {
        assert_eq!(late(expiry), None);
    }
    assert_eq!(late(Expiry::PerTry), Some((Cause::PerTryTimeout, false)));
    assert_eq!(late(Expiry::PerTryIdle), Some((Cause::PerTryTimeout, false)));
}

#[test]
fn policies_for_people() {
    let mut retry = policy(&[RetryCondition::Reset, RetryCondition::Status(503)]);
    assert_eq!(retry_text(&retry), "3 on reset, status 503; idempotent methods");
    retry.methods = RetryMethods::Listed(vec!["GET".into(), "PUT".into()]);
    retry.request_headers = vec![check("x-a", HeaderValue::Present)];
    retry.backoff = Backoff { base_ms: 25, max_ms: 0 };
    let header = ResetHeader { name: "Retry-After".into(), format: ResetFormat::Seconds };
    retry.rate_limited = Some(RateLimitedBackoff { headers: vec![header], max_ms: 9 });
    (retry.per_try_timeout_ms, retry.per_try_idle_timeout_ms) = (100, 50);
    retry.budget = Some(cardinal_ir::policy::RetryBudget::default());
    assert_eq!(
        retry_text(&retry),
        "3 on reset, status 503; GET, PUT; requests with x-a; backoff 25 to 250 ms; wait by Retry-After up to 9 ms; \
         100 ms per try; 50 ms idle per try; budget 20 % or 3"
    );
}

/// The meaning of a policy, implemented without regard to speed.
mod naive {
    use super::*;

    pub(super) fn is_sent_again(retry: &Retry, attempt: Attempt<'_>, situation: &Situation<'_>) -> bool {
        let attempts_left = i64::from(retry.attempts) - i64::from(situation.retries);
        attempts_left > 0
            && situation.replayable
            && retry.conditions.iter().any(|condition| holds(condition, attempt))
            && method_allows(retry, attempt, situation.request)
            && header_allows(retry, situation.request)
    }

    fn holds(condition: &RetryCondition, attempt: Attempt<'_>) -> bool {
        let status = match attempt {
            Attempt::Response(response) => response.status,
            Attempt::Failed { .. } => 0,
        };
        let failure = |wanted: &[(Cause, Option<bool>)]| match attempt {
            Attempt::Failed { cause, unsent } => {
                wanted.iter().any(|(c, u)| *c == cause && u.is_none_or(|wanted| wanted == unsent))
            }
            Attempt::Response(_) => false,
        };
        match condition {
            RetryCondition::ConnectFailure => failure(&[(Cause::Connect, None)]),
            RetryCondition::Reset => failure(&[(Cause::Reset, None)]),
            RetryCondition::ResetBeforeRequest | RetryCondition::RefusedStream => {
                failure(&[(Cause::Reset, Some(true))])
            }
            RetryCondition::Timeout => failure(&[(Cause::Timeout, None), (Cause::PerTryTimeout, None)]),
            RetryCondition::PerTryTimeout => failure(&[(Cause::PerTryTimeout, None)]),
            RetryCondition::ServerError => status / 100 == 5,
            RetryCondition::GatewayError => [502, 503, 504].contains(&status),
            RetryCondition::Retriable4xx => status == 409,
            RetryCondition::Status(listed) => status >= 200 && status == *listed,
            RetryCondition::ResponseHeader(check) => match attempt {
                Attempt::Response(response) => status >= 200 && header(&response.headers, check),
                Attempt::Failed { .. } => false,
            },
            RetryCondition::Grpc(code) => match attempt {
                Attempt::Response(response) => {
                    status >= 200 && response.headers.get(b"grpc-status") == Some(code.number().to_string().as_bytes())
                }
                Attempt::Failed { .. } => false,
            },
        }
    }

    fn header(headers: &HeaderList, check: &HeaderCheck) -> bool {
        let values: Vec<String> =
            headers.get_all(check.name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        match &check.value {
            HeaderValue::Present => !values.is_empty(),
            HeaderValue::Absent => values.is_empty(),
            HeaderValue::Exact(text) => values.contains(&text.to_string()),
            HeaderValue::Prefix(text) => values.iter().any(|value| value.starts_with(&**text)),
        }
    }

    fn method_allows(retry: &Retry, attempt: Attempt<'_>, request: &RequestHead) -> bool {
        let method = request.method.as_str();
        match &retry.methods {
            RetryMethods::Any => true,
            RetryMethods::Listed(methods) => methods.iter().any(|listed| **listed == *method),
            RetryMethods::Idempotent => {
                let unsent = matches!(attempt, Attempt::Failed { unsent: true, .. });
                unsent || ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"].contains(&method)
            }
        }
    }

    fn header_allows(retry: &Retry, request: &RequestHead) -> bool {
        retry.request_headers.is_empty() || retry.request_headers.iter().any(|check| header(&request.headers, check))
    }
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let name = prop::sample::select(vec!["x-a", "X-A", "grpc-status", "retry-after", "x-reset"]);
    let value = prop::sample::select(vec!["", "1", "14", "1x", "13", "3", "1700000003", "yes"]);
    collection::vec((name, value), 0..4)
}

fn header_checks() -> impl Strategy<Value = HeaderCheck> {
    let value = prop_oneof![
        Just(HeaderValue::Present),
        Just(HeaderValue::Absent),
        Just(HeaderValue::Exact("1".into())),
        Just(HeaderValue::Prefix("1".into())),
    ];
    (prop::sample::select(vec!["x-a", "x-reset"]), value).prop_map(|(name, value)| check(name, value))
}

fn conditions() -> impl Strategy<Value = RetryCondition> {
    prop_oneof![
        prop::sample::select(vec![
            RetryCondition::ConnectFailure,
            RetryCondition::Reset,
            RetryCondition::ResetBeforeRequest,
            RetryCondition::RefusedStream,
            RetryCondition::Timeout,
            RetryCondition::PerTryTimeout,
            RetryCondition::ServerError,
            RetryCondition::GatewayError,
            RetryCondition::Retriable4xx,
            RetryCondition::Grpc(GrpcCode::Cancelled),
            RetryCondition::Grpc(GrpcCode::Internal),
            RetryCondition::Grpc(GrpcCode::Unavailable),
        ]),
        prop::sample::select(vec![101_u16, 200, 409, 503]).prop_map(RetryCondition::Status),
        header_checks().prop_map(RetryCondition::ResponseHeader),
    ]
}

fn policies() -> impl Strategy<Value = Retry> {
    let methods = prop_oneof![
        Just(RetryMethods::Idempotent),
        Just(RetryMethods::Any),
        Just(RetryMethods::Listed(vec!["POST".into(), "GET".into()])),
    ];
    let reset = ["retry-after", "x-reset"].into_iter().zip([ResetFormat::Seconds, ResetFormat::UnixTimestamp]);
    let reset: Vec<_> = reset.map(|(name, format)| ResetHeader { name: name.into(), format }).collect();
    let limited = (0_u64..5_000).prop_map(move |max_ms| RateLimitedBackoff { headers: reset.clone(), max_ms });
    let backoff = (0_u64..100, 0_u64..500).prop_map(|(base_ms, max_ms)| Backoff { base_ms, max_ms });
    let request_headers = collection::vec(header_checks(), 0..2);
    (0_u16..4, collection::vec(conditions(), 0..4), methods, request_headers, backoff, option::of(limited)).prop_map(
        |(attempts, conditions, methods, request_headers, backoff, rate_limited)| Retry {
            attempts,
            conditions,
            methods,
            request_headers,
            backoff,
            rate_limited,
            ..Retry::default()
        },
    )
}

proptest! {
    #[test]
    fn decisions_are_those_of_the_naive_model(
        retry in policies(),
        (failure, unsent) in (option::of(prop::sample::select(vec![Cause::Connect, Cause::Reset, Cause::Timeout, Cause::PerTryTimeout])), any::<bool>()),
        (status, response_headers) in (prop::sample::select(vec![101_u16, 200, 409, 429, 500, 503, 504]), headers()),
        (method, request_headers) in (prop::sample::select(vec!["GET", "POST", "PATCH", "DELETE"]), headers()),
        (retries, replayable, left_ms, number) in (0_u16..4, any::<bool>(), option::of(0_u64..2_000), any::<u64>()),
    ) {
        let (response, request) = (response(status, &response_headers), request(method, &request_headers));
        let attempt = match failure {
            Some(cause) => failed(cause, unsent),
            None => Attempt::Response(&response),
        };
        let situation = Situation { retries, request: &request, replayable, left_ms, now: NOW };
        let decided = decide(&retry, attempt, &situation, |bound| if bound == 0 { 0 } else { number % bound });
        let unlimited = Situation { left_ms: None, ..situation };
        let would = decide(&retry, attempt, &unlimited, |bound| if bound == 0 { 0 } else { number % bound });
        prop_assert_eq!(would.is_some(), naive::is_sent_again(&retry, attempt, &situation));
        prop_assert_eq!(decided, would.filter(|delay| left_ms.is_none_or(|left| delay.ms < left)));
        if let Some(delay) = would {
            let max = if retry.backoff.max_ms == 0 { retry.backoff.base_ms * 10 } else { retry.backoff.max_ms };
            let asked = retry.rate_limited.as_ref().map_or(0, |limited| limited.max_ms + limited.max_ms / 2);
            prop_assert!(delay.ms <= max.max(asked), "{:?} of {:?}", delay, retry);
        }
    }
}
