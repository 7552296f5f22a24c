//! The program as systemd sees it: what a process tells the socket that `NOTIFY_SOCKET` names.

use std::fs;
use std::path::Path;
use std::time::Duration;

use teams_pstn_simulator::world::World;
use tokio::net::UnixDatagram;

use crate::support::{ANY_PORT, Folder, Program, Setup};

/// The next message that contains this; those of the watchdog come at their own times.
async fn notification(socket: &UnixDatagram, part: &str) -> String {
    let mut buffer = [0; 1024];
    loop {
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        let length = length.unwrap_or_else(|_| panic!("no notification {part}"));
        let message = String::from_utf8(buffer[..length.unwrap()].to_vec()).unwrap();
        let message = message.trim_end().to_owned();
        if message.contains(part) {
            return message;
        }
        assert_eq!(message, "WATCHDOG=1", "before {part}");
    }
}

/// Not waited for but where a test fails.
const PATIENCE: Duration = Duration::from_mins(1);

fn listen(folder: &Path) -> (UnixDatagram, String) {
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    (socket, path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn ready_alive_reloading_ready_again_and_stopping() {
    let (simulator, _) = Setup::of(World::Rows { count: 1 }).simulate().await;
    let folder = Folder::new();
    let (socket, path) = listen(&folder.path(""));
    let option = folder.configure(simulator.url(), "");
    let file = folder.path("config.yml");
    let environment = [
        ("NOTIFY_SOCKET", path.as_str()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let mut program = Program::start(&[ANY_PORT, &option], &environment);
    assert_eq!(
        notification(&socket, "READY").await,
        "READY=1\nSTATUS=serving"
    );
    program.address().await;
    notification(&socket, "WATCHDOG").await;
    for (text, status) in [
        (None, "serving; configuration reloaded"),
        (
            Some("tenants: ["),
            "serving; configuration not reloaded, the previous one stays in use",
        ),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        program.signal("HUP").await;
        let reloading = notification(&socket, "RELOADING=1").await;
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        let ready = notification(&socket, "READY").await;
        assert_eq!(ready, format!("READY=1\nSTATUS={status}"));
    }
    notification(&socket, "WATCHDOG").await;
    program.signal("TERM").await;
    assert_eq!(
        notification(&socket, "STOPPING").await,
        "STOPPING=1\nSTATUS=stopping"
    );
    let (code, said) = program.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("watchdog"), "{said}");
}

#[tokio::test]
async fn an_unreachable_socket_changes_nothing() {
    let environment = [("NOTIFY_SOCKET", "/nowhere/notify"), ("WATCHDOG_USEC", "0")];
    let mut demo = Program::start(&["demo", "--log.level=info", ANY_PORT], &environment);
    demo.logged("cannot reach the socket in NOTIFY_SOCKET")
        .await;
    demo.logged("poll complete").await;
    demo.stop().await;
}
