//! The page of the running program: budgets, and a reload that was refused.

use std::fs;

use teams_pstn_exporter::config::Config;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};

use crate::support::{CLIENT, Exporter, SECRET, Setup, TENANT, request, row};

#[tokio::test(start_paused = true)]
async fn budgets_and_a_refused_reload_are_on_the_page_until_they_are_gone() {
    let world = World::Table(Table::new([row("ann", "12400.5")]));
    let (simulator, time) = Setup::of(world).simulate().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let file = folder.path().join("config.yml");
    let url = simulator.url();
    let tenants = format!(
        "tenants:\n- tenant_id: {TENANT}\n  client_id: {CLIENT}\n  client_secret_file: secret\n  \
         graph_url: {url}\n  authority_url: {url}\n"
    );
    let budget = |name: &str| {
        format!("budgets:\n- {{name: {name}, report: dialout, currency: USD, amount: 10000}}\n")
    };
    fs::write(&file, tenants.clone() + &budget("first")).unwrap();
    let path = file.clone();
    let mut exporter = Exporter::start(Box::new(move || Config::load(&path)), &time);
    exporter.first_poll().await;
    let page = async |exporter: &Exporter| exporter.get("/").await.body;
    let reload = async |exporter: &mut Exporter| {
        let answer = request(exporter.address, "POST", "/-/reload", "").await;
        let refused = answer.status != 200;
        exporter
            .until(|snapshot| snapshot.refused_reload().is_some() == refused)
            .await;
        refused
    };
    let html = page(&exporter).await;
    assert!(html.contains("The budget is at least 120 % spent. The report is up to date."));
    let spent = "<span title=\"12400.5 USD\">12,400.50</span> of <span title=\"10000 USD\">10,000.00</span> <bdi>USD</bdi> spent, <b>124&nbsp;%</b>";
    assert!(html.contains(spent), "{html}");

    fs::write(&file, "tenants:\n- bogus: 1\n").unwrap();
    assert!(reload(&mut exporter).await);
    let html = page(&exporter).await;
    assert!(
        html.contains("The new configuration was refused."),
        "{html}"
    );
    assert!(
        html.contains("config.yml:2: ") && html.contains(spent),
        "{html}"
    );

    // Like its metrics, a budget that is gone disappears when the next poll fails.
    simulator.push_fault(When::graph().always(), Fault::StallHead);
    fs::write(&file, tenants + &budget("second")).unwrap();
    assert!(!reload(&mut exporter).await);
    exporter
        .until(|snapshot| snapshot.states()[0].failure.is_some())
        .await;
    let html = page(&exporter).await;
    assert!(!html.contains("was refused"), "{html}");
    assert!(
        html.contains("12,400.50") && !html.contains("<h2>Budgets"),
        "{html}"
    );
}
