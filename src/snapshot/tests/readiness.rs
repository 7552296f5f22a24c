//! Tests when the exporter is ready, and which reason it gives when it is not.

use super::*;

#[test]
fn readiness_by_table() {
    let tried = |tenant: &str| State {
        last_attempt: Some(DateTime::UNIX_EPOCH),
        ..state(tenant)
    };
    let failed = |tenant: &str| {
        let failure = Failure {
            reason: "auth",
            message: "no token".to_owned(),
            remedy: "fix it",
        };
        State {
            failure: Some(failure),
            ..tried(tenant)
        }
    };
    let complete = |tenant: &str| {
        let period =
            BillingPeriod::containing(DateTime::UNIX_EPOCH, crate::period::CycleDay::default());
        let summary = Summary {
            period,
            rows: 0,
            newest: None,
            spend: Vec::new(),
            counts: Vec::new(),
            top: Vec::new(),
            allocated: AllocatedSummary::default(),
        };
        State {
            summary: Some(Arc::new(summary)),
            ..tried(tenant)
        }
    };
    let expired = |tenant: &str| State {
        expired: true,
        ..failed(tenant)
    };
    let check = |states: &[State], expected: Result<Option<&str>, &str>| {
        let snapshot = Snapshot {
            states: states.into(),
            ..Snapshot::default()
        };
        let ready = snapshot.ready();
        let ready = ready.as_ref().map(Option::as_deref);
        assert_eq!(ready.map_err(String::as_str), expected);
    };
    check(&[], Ok(None));
    check(
        &[state("a")],
        Err("report dialout of a has not been tried yet"),
    );
    check(
        &[complete("a"), state("b")],
        Err("report dialout of b has not been tried yet"),
    );
    check(
        &[failed("a")],
        Err("no report has been complete yet; dialout of a fails: auth, see the page or the log"),
    );
    check(&[tried("a")], Err("no report has been complete yet"));
    check(&[failed("a"), complete("b")], Ok(None));
    check(&[complete("a")], Ok(None));
    check(
        &[failed("a"), expired("b")],
        Err("no report is young enough to be served; dialout of b is older than poll.max_age"),
    );
    check(
        &[expired("a"), state("b")],
        Err("report dialout of b has not been tried yet; dialout of a is older than poll.max_age"),
    );
    check(
        &[expired("a"), complete("b")],
        Ok(Some("dialout of a is older than poll.max_age")),
    );
    let alone = State {
        tenant: None,
        ..expired("a")
    };
    let sms = State {
        report: ReportKind::Sms,
        tenant: None,
        ..complete("a")
    };
    check(
        &[alone, sms],
        Ok(Some("dialout is older than poll.max_age")),
    );
    check(
        &[expired("a"), complete("b"), expired("c")],
        Ok(Some(
            "dialout of a, dialout of c are older than poll.max_age",
        )),
    );
    let mut many: Vec<State> = (1..=7).map(|n| expired(&n.to_string())).collect();
    many.push(complete("8"));
    check(
        &many,
        Ok(Some(
            "dialout of 1, dialout of 2, dialout of 3, dialout of 4, dialout of 5 and 2 more are older than poll.max_age",
        )),
    );
}

#[test]
fn removed_report_is_untried_when_it_returns() {
    let publisher = publisher();
    for tenant in ["a", "b"] {
        publisher.update(
            key(tenant),
            numbers(tenant, 3),
            health(tenant),
            Some(state(tenant)),
        );
    }
    publisher.forget(|forgotten| forgotten.tenant == key("a").tenant);
    publisher.publish();
    let snapshot = publisher.subscribe().latest();
    let text = read(&snapshot, Format::Text, Encoding::Identity, &[]);
    assert!(!text.contains("tenant=\"a\""), "{text}");
    assert!(text.contains("tenant=\"b\""), "{text}");
    let states = snapshot
        .states()
        .iter()
        .map(|state| state.tenant.as_deref());
    assert_eq!(states.collect::<Vec<_>>(), [Some("a"), Some("b")]);
    assert_eq!(
        snapshot.ready(),
        Err("report dialout of a has not been tried yet".to_owned())
    );
}
