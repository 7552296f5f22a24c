//! The usual tenant of the simulator, and people in it.

use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::world::{Table, World};
use teams_pstn_simulator::{self as simulator, Simulator};

pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub(crate) const SECRET: &str = "s3cret~of.a+known/value=";

/// One row as Graph writes it.
pub(crate) fn row(user: &str, charge: &str) -> String {
    format!(
        "{{\"userId\":\"id-{user}\",\"userPrincipalName\":\"{user}@contoso.com\",\"userDisplayName\":\"{user}\",\
         \"usageLocation\":\"US\",\"destinationContext\":\"Domestic\",\"currency\":\"USD\",\"totalCalls\":1,\
         \"totalCallCharge\":{charge},\"totalCallSeconds\":60}}"
    )
}

/// A simulator with these tenants, by the machine's clock.
pub(crate) async fn simulator(tenants: Vec<simulator::Tenant>) -> Simulator {
    let clock = Clock::system();
    Simulator::start(simulator::Options {
        tenants,
        ..simulator::Options::new(move || clock.now())
    })
    .await
    .unwrap()
}

/// The tenant of most tests, with a few people in it.
pub(crate) fn tenant() -> simulator::Tenant {
    simulator::Tenant::new(TENANT, CLIENT, SECRET, people())
}

/// Three people whose names are easily recognised.
pub(crate) fn people() -> World {
    let row = |id: &str, principal: &str, display: &str, charge: &str| {
        format!(
            r#"{{"userId":"{id}","userPrincipalName":"{principal}","userDisplayName":"{display}","usageLocation":"US","destinationContext":"International","currency":"USD","totalCalls":2,"totalCallSeconds":60,"totalCallCharge":{charge}}}"#
        )
    };
    World::Table(Table::new([
        row(
            "id-1",
            "Ottilie.Quaver@contoso.com",
            "Ottilie Quaver",
            "1.25",
        ),
        row("id-2", "zebedee@contoso.com", "Zebedee Thrum", "0.1"),
        row("id-3", "ximena@contoso.com", "Ximena Plonk", "7"),
    ]))
}

/// Words by which a test recognises [`people`] in any text.
pub(crate) const NAMES: [&str; 8] = [
    "ottilie", "quaver", "zebedee", "thrum", "ximena", "plonk", "@contoso", "jasper",
];
