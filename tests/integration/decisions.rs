//! The figures that an administrator decides by: budgets, and the previous period.

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::money::Amount;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_simulator::world::{Table, World};

use crate::support::{Exporter, Metrics, Setup, config};

#[tokio::test(start_paused = true)]
async fn budgets_are_spent_from_the_first_report_on() {
    let rows = [
        row("ann", "US", "International", "100.10"),
        row("bob", "DE", "Domestic", "2.00"),
    ];
    let setup = Setup {
        change: with_budgets,
        ..Setup::of(World::Table(Table::new(rows)))
    };
    let (_simulator, mut exporter, _) = setup.start().await;
    let metrics = exporter.first_poll().await;
    let check = |budget: &str, amount: &str, spent: &str| {
        let labels = format!("{{budget=\"{budget}\",currency=\"USD\"}}");
        assert_eq!(
            metrics.value(&format!("teams_pstn_budget_amount{labels}")),
            amount,
            "{budget}"
        );
        assert_eq!(
            metrics.value(&format!("teams_pstn_budget_spent{labels}")),
            spent,
            "{budget}"
        );
    };
    check("all", "500.5", "102.1");
    check("abroad", "500.5", "100.1");
    check("bob", "500.5", "2");
    check("absent", "500.5", "0");
}

#[tokio::test(start_paused = true)]
async fn previous_period_is_fetched_until_it_is_final() {
    let table = Table::new([
        row("ann", "US", "International", "10.00"),
        row("bob", "US", "International", "0.50"),
    ]);
    let setup = Setup {
        now: "2026-10-31T22:30:00Z",
        ..Setup::of(World::Table(table.clone()))
    };
    let (simulator, time) = setup.simulate().await;
    let config = config(&simulator);
    let mut exporter = Exporter::start_with(Box::new(move || Ok(config.clone())), &time, true);
    let previous = r#"teams_pstn_dialout_previous_charge{currency="USD",destination_context="International",usage_location="US"}"#;
    let is = |value: &'static str| move |metrics: &Metrics| metrics.get(previous) == Some(value);
    let fetched = |from: &str, to: &str| {
        let window = format!("(fromDateTime={from}T00:00:00Z,toDateTime={to}T23:59:59.9999999Z)");
        simulator
            .requests()
            .iter()
            .filter(|request| request.path.ends_with(&window))
            .count()
    };
    // The simulator says the same of every period.
    exporter.scrape_when(is("10.5")).await;
    assert_eq!(fetched("2026-09-01", "2026-09-30"), 1);
    table.set_rows([row("ann", "US", "International", "20.00")]);
    time.set("2026-11-01T00:00:01Z");
    let november = exporter
        .scrape_when(|metrics| metrics.value(PERIOD_START) == "1793491200")
        .await;
    assert!(
        november.get(previous).is_some(),
        "October's figures are there as soon as November's"
    );
    exporter.scrape_when(is("20")).await;
    assert_eq!(fetched("2026-10-01", "2026-10-31"), 1);
    for day in 1..=7 {
        for hour in [0, 7, 14, 21] {
            time.set(&format!("2026-11-{day:02}T{hour:02}:30:00Z"));
            exporter.next_poll().await;
        }
    }
    // The last of them may still be under way, but none is due any more.
    assert_eq!(
        fetched("2026-10-01", "2026-10-31"),
        1 + 3 * 4 + 1,
        "three times a day at these hours, until four days without a change have been seen"
    );
}

const PERIOD_START: &str = r#"teams_pstn_billing_period_start_timestamp_seconds{report="dialout"}"#;

fn with_budgets(config: &mut Config) {
    let budget = |name: &str, user: Option<&str>, context: Option<&str>| Budget {
        user: user.map(str::to_owned),
        destination_context: context.map(str::to_owned),
        ..Budget::new(name, Amount::from_json("500.50").unwrap())
    };
    config.budgets = vec![
        budget("all", None, None),
        budget("abroad", None, Some("International")),
        budget("bob", Some("BOB@contoso.com"), None),
        budget("absent", Some("absent@contoso.com"), None),
    ];
}

fn row(user: &str, location: &str, context: &str, charge: &str) -> String {
    format!(
        r#"{{"userId":"{user}","userPrincipalName":"{user}@contoso.com","usageLocation":"{location}","destinationContext":"{context}","currency":"USD","totalCalls":1,"totalCallSeconds":60,"totalCallCharge":{charge}}}"#
    )
}
