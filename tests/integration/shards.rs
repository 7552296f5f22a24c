//! `--tenants.shard`, as daemons see it: every tenant is in a shard, and a shard without tenants is alive.

use std::collections::BTreeSet;

use teams_pstn_simulator::world::World;

use crate::support::{
    ANY_PORT, ENVIRONMENT, Exporter, Folder, Program, SECRET_FILE, Setup, promtool, yaml,
};

const OTHER: &str = "11111111-2222-3333-4444-555555555556";

#[tokio::test(start_paused = true)]
async fn every_tenant_is_in_one_shard_and_an_empty_shard_is_ready() {
    let setup = Setup {
        others: vec![(OTHER, World::Rows { count: 2 })],
        ..Setup::of(World::Rows { count: 1 })
    };
    let (simulator, time) = setup.simulate().await;
    let mut config = crate::support::config(&simulator);
    config.tenants[0].name = Some("contoso".into());
    let mut other = config.tenants[0].clone();
    other.tenant_id = OTHER.to_owned();
    other.name = Some("fabrikam".into());
    config.tenants.push(other);
    let mut seen = Vec::new();
    let mut empty = 0;
    for shard in ["0/3", "1/3", "2/3"] {
        let config = config.clone().sharded(shard.parse().unwrap()).unwrap();
        let count = config.tenants.len();
        let load = Box::new(move || Ok(config.clone()));
        let mut exporter = Exporter::start(load, &time);
        if count == 0 {
            empty += 1;
        } else {
            assert_eq!(exporter.get("/-/ready").await.status, 503, "{shard}");
            exporter.first_poll().await;
        }
        let metrics = exporter.scrape().await;
        let up = metrics.samples("teams_pstn_report_up");
        assert_eq!(up.len(), count, "{shard}");
        seen.extend(up.iter().map(|up| up.label("tenant").to_owned()));
        assert_eq!(exporter.get("/-/ready").await.status, 200, "{shard}");
        let page = exporter.get("/").await;
        assert_eq!(
            page.body.contains("no tenant to poll"),
            count == 0,
            "{shard}"
        );
        promtool(&metrics.0);
        exporter.stop().await;
    }
    assert_eq!(empty, 1);
    assert_eq!(seen.len(), 2);
    let seen: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["contoso", "fabrikam"].into());
}

#[tokio::test]
async fn shard_is_logged_and_unnamed_tenants_are_refused() {
    let (simulator, _) = Setup::of(World::Rows { count: 1 }).simulate().await;
    let folder = Folder::new();
    let option = folder.configure(simulator.url(), "");
    let unnamed = "--tenants.shard: there is one tenant and it has no name";
    for (words, said) in [
        (&["--tenants.shard=1/2"][..], unnamed),
        (&["--tenants.shard=1/2", &option], unnamed),
        (&["--tenants.shard=1/2", "--config.check", &option], unnamed),
        (&["--tenants.shard=2/2"], "they are counted from 0"),
        (&["demo", "--tenants.shard=1/2"], "remove --tenants.shard"),
    ] {
        let words = [words, &[ANY_PORT]].concat();
        let (code, all) = Program::start(&words, &ENVIRONMENT).end().await;
        assert_eq!(code, Some(2), "{words:?}: {all}");
        assert!(all.contains(said), "{words:?}: {all}");
    }
    let named = yaml(simulator.url(), SECRET_FILE, "");
    let named = named.replace("tenant_id", "name: contoso\n    tenant_id");
    folder.write("config.yml", named);
    let mut shares = Vec::new();
    for shard in ["--tenants.shard=0/2", "--tenants.shard=1/2"] {
        let mut program = Program::start(&[ANY_PORT, &option, shard], &[]);
        program.address().await;
        let said = program.stop().await;
        shares.push(said.contains("tenants=1 of=1"));
        assert!(said.contains("of=1"), "{said}");
    }
    shares.sort_unstable();
    assert_eq!(shares, [false, true]);
}
