//! Without TLS and authentication.

use teams_pstn_exporter::{REVISION, VERSION};

use super::*;

#[tokio::test]
async fn routes_by_table() {
    let server = Server::start(state());
    for (method, path, status, allow) in [
        ("GET", "/metrics", 200, None),
        ("HEAD", "/metrics", 200, None),
        ("POST", "/metrics", 405, Some("GET, HEAD")),
        ("OPTIONS", "/metrics", 405, Some("GET, HEAD")),
        ("GET", "/metrics/", 404, None),
        ("GET", "/metrics?name[]=a", 200, None),
        ("GET", "/", 200, None),
        ("HEAD", "/", 200, None),
        ("DELETE", "/", 405, Some("GET, HEAD")),
        ("GET", "/-/healthy", 200, None),
        ("PUT", "/-/healthy", 405, Some("GET, HEAD")),
        ("GET", "/-/ready", 200, None),
        ("HEAD", "/-/ready", 200, None),
        ("POST", "/-/reload", 404, None),
        ("GET", "/favicon.ico", 404, None),
        ("POST", "/nothing", 404, None),
        ("GET", "/../etc/passwd", 404, None),
    ] {
        let answer = server.ask(method, path, "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (status, allow),
            "{method} {path}: {answer:?}"
        );
        assert!(answer.header("content-type").is_some(), "{method} {path}");
        if method == "HEAD" {
            assert_eq!(answer.body, "", "{method} {path}");
        } else {
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("content-length"), Some(length.as_str()));
        }
    }
}

#[tokio::test]
async fn head_has_the_length_of_the_get_response() {
    let server = Server::start(state());
    for path in ["/", "/-/healthy", "/nothing"] {
        let (head, get) = (server.ask("HEAD", path, "").await, server.get(path).await);
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert_ne!(get.body, "", "hyper tells no length of an empty body");
    }
}

#[tokio::test]
async fn the_metrics_are_negotiated() {
    let server = Server::start(state());
    for (headers, content_type, encoding) in [
        (
            "",
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            None,
        ),
        (
            "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            Some("gzip"),
        ),
    ] {
        let answer = server.ask("GET", "/metrics", headers).await;
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.header("content-encoding"), encoding);
    }
}

#[tokio::test]
async fn the_page_yields_to_metrics_at_the_root() {
    let server = Server::start(ServerState {
        telemetry_path: "/".parse().unwrap(),
        ..state()
    });
    let answer = server.get("/").await;
    assert!(answer.header("content-type").unwrap().contains("0.0.4"));
    assert_eq!(server.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn reload_reports_the_outcome() {
    for (outcome, status, body) in [
        (Ok(()), 200, "reloaded\n"),
        (Err("line 3: no"), 500, "cannot reload: line 3: no\n"),
    ] {
        let server = Server::start(reloading(outcome));
        let answer = server.ask("POST", "/-/reload", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
        let answer = server.get("/-/reload").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    }
}

#[tokio::test]
async fn reload_by_a_browser_is_refused() {
    let server = Server::start(reloading(Ok(())));
    for (header, status) in [
        ("", 200),
        ("Content-Type: text/plain\r\nContent-Length: 0\r\n", 200),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: http://127.0.0.1:10053\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-origin\r\n", 403),
        ("Sec-Fetch-Site: none\r\n", 403),
        ("sec-fetch-mode: no-cors\r\n", 403),
    ] {
        let answer = server.ask("POST", "/-/reload", header).await;
        assert_eq!(answer.status, status, "{header}");
    }
    // Everything else may be looked at in a browser.
    for path in ["/", "/metrics"] {
        let answer = server.ask("GET", path, "Sec-Fetch-Site: none\r\n").await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

/// The bounds of what waits are tested with a reload that never ends.
#[tokio::test]
async fn waiting_reloads_are_bounded() {
    let (requests, mut taken) = mpsc::channel::<Reload>(100);
    let server = Server::start(ServerState {
        reload: Some(requests),
        ..state()
    });
    let mut waiting = Vec::new();
    for _ in 0..16 {
        waiting.push(reload(&server, &mut taken).await);
    }
    let answer = server.ask("POST", "/-/reload", "").await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

/// With DNS rebinding a page has a name of its own for this machine.
#[tokio::test]
async fn foreign_names_for_loopback_are_refused() {
    let server = Server::start(reloading(Ok(())));
    for (method, path, foreign) in [
        ("GET", "/metrics", 403),
        ("GET", "/", 403),
        ("GET", "/-/ready", 403),
        ("GET", "/nothing", 403),
        ("POST", "/-/reload", 403),
        ("GET", "/-/healthy", 200),
    ] {
        for (host, refused) in [
            ("localhost", false),
            ("127.0.0.1:10053", false),
            ("[::1]:10053", false),
            ("evil.example:10053", true),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let status = exchange(&mut server.connect().await, &request).await.status;
            if refused {
                assert_eq!(status, foreign, "{path} {host}");
            } else {
                assert_ne!(status, 403, "{path} {host}");
            }
        }
    }
}

#[tokio::test]
async fn every_name_is_accepted_on_other_addresses_than_loopback() {
    let bound = Bound::bind(&Listen::Addresses(vec![":0".parse().unwrap()])).unwrap();
    let port = bound.addresses()[0].port();
    let serving = tokio::spawn(bound.serve(state(), std::future::pending()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: exporter.example\r\n\r\n";
    assert_eq!(exchange(&mut stream, request).await.status, 200);
    serving.abort();
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = Server::start(state());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let answer = exchange(&mut stream, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "healthy\n"));
    }
}

#[tokio::test]
async fn too_many_scrapes_are_refused() {
    let server = Server::start(ServerState {
        requests_max: 0,
        ..state()
    });
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "0 scrapes are under way, which is the limit; try again later\n"
    );
    assert_eq!(server.get("/-/healthy").await.status, 200);
    // Nor is it asked again on the same connection.
    let mut stream = server.connect().await;
    let answer = exchange(&mut stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn scrape_permits_are_released() {
    let server = Server::start(ServerState {
        requests_max: 1,
        ..state()
    });
    let mut stream = server.connect().await;
    for request in ["GET", "HEAD", "GET"] {
        let request = format!("{request} /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(exchange(&mut stream, &request).await.status, 200);
    }
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let server = Server::start(state());
    let header = format!("X: {}\r\n", "x".repeat(200 * 1024));
    let answer = server.ask("GET", "/", &header).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn silent_client_is_disconnected() {
    let mut state = state();
    state.limits.header_time = Duration::from_millis(50);
    let server = Server::start(state);
    for begun in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "{begun:?}");
    }
    // And one that falls silent within its second request.
    let mut stream = server.connect().await;
    exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    stream.write_all(b"GET").await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn client_that_reads_nothing_is_disconnected() {
    let mut state = state();
    state.limits.connections = 1;
    state.limits.stall = Duration::from_millis(50);
    let server = Server::start(state);
    let mut deaf = server.connect().await;
    // More answers than the buffers of the two sockets hold.
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5_000);
    let (_unread, mut requesting) = deaf.split();
    let _ = requesting.write_all(requests.as_bytes()).await;
    // The only place is free again.
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let answer = Server::start(state()).get("/").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for part in ["<script", "<img", "http:", "https:"] {
        assert!(!answer.body.contains(part), "{part}");
    }
    let version = format!("Version {VERSION} ({REVISION})");
    assert!(answer.body.contains(&version));
}

#[tokio::test]
async fn an_idle_connection_is_kept_longer_than_a_silent_one() {
    let mut state = state();
    state.limits.header_time = Duration::from_millis(30);
    let server = Server::start(state);
    let mut stream = server.connect().await;
    exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // A silent one, begun later, is dropped first.
    let mut silent = server.connect().await;
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    let answer = exchange(&mut stream, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let mut state = state();
    state.limits.idle = Duration::from_millis(50);
    let server = Server::start(state);
    let mut stream = server.connect().await;
    exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn idle_connections_yield_to_new_ones() {
    let mut state = state();
    state.limits.connections = 2;
    state.limits.close_grace = Duration::ZERO;
    let server = Server::start(state);
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        idle.push(stream);
    }
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

/// However the others hold their slots: silent, in the middle of a request, idle, or with responses that they do not read.
#[tokio::test]
async fn a_probe_always_gets_a_slot() {
    let mut state = state();
    state.limits.connections = 2;
    state.limits.close_grace = Duration::from_millis(50);
    let server = Server::start(state);
    let unread = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5_000);
    let mut others = Vec::new();
    for begin in [
        "",
        "GET /",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        unread.as_str(),
    ] {
        for _ in 0..3 {
            let mut other = server.connect().await;
            let begin = begin.to_owned();
            others.push(tokio::spawn(async move {
                // The server closes the connection for another.
                let _ = other.write_all(begin.as_bytes()).await;
                std::future::pending::<()>().await;
            }));
            assert_eq!(server.get("/-/healthy").await.status, 200);
        }
    }
}

#[tokio::test]
async fn connections_are_not_kept_when_three_quarters_of_the_slots_are_taken() {
    let mut state = state();
    state.limits.connections = 8;
    let server = Server::start(state);
    let mut kept = Vec::new();
    for index in 0..7 {
        let mut stream = server.connect().await;
        let answer = exchange(&mut stream, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let closes = answer.header("connection") == Some("close");
        assert_eq!(closes, index >= 5, "{index}");
        if closes {
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
        kept.push(stream);
    }
}

#[tokio::test]
async fn connections_that_become_idle_yield_too() {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    let mut state = state();
    state.limits.connections = 1;
    state.limits.close_grace = Duration::ZERO;
    state.reload = Some(wishes);
    let server = Server::start(state);
    let (_busy, wish) = reload(&server, &mut taken).await;
    let address = server.address;
    let other = tokio::spawn(async move { request(address, "GET", "/-/healthy", "").await.status });
    tokio::task::yield_now().await;
    wish.reply.send(Ok(())).unwrap();
    assert_eq!(other.await.unwrap(), 200);
}

/// Uses tokio's paused clock, so that slow clients cost no real time.
#[tokio::test(start_paused = true)]
async fn new_connection_can_send_a_request_at_the_limit() {
    let mut state = state();
    state.limits.connections = 1;
    state.limits.close_grace = Duration::from_secs(20);
    let server = Server::start(state);
    let mut new = server.connect().await;
    let address = server.address;
    let ask = || async move { request(address, "GET", "/-/healthy", "").await.status };
    let other = tokio::spawn(ask());
    // It is asked to make room again and again.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let answer = exchange(&mut new, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    // Its time begins again with the answer, and with the first byte of the next request, and then is over.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!other.is_finished());
    new.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert!(!other.is_finished());
    assert_eq!(other.await.unwrap(), 200);
    assert_eq!(new.read(&mut [0; 1]).await.unwrap(), 0);
}

/// A client that asks for a reload keeps its connection, because the answer may come at any time.
#[tokio::test(start_paused = true)]
async fn a_server_at_its_connection_limit_has_a_heartbeat() {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    let mut state = state();
    state.limits.connections = 1;
    state.reload = Some(wishes);
    let listen = Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()]);
    let bound = Bound::bind(&listen).unwrap();
    let (address, heartbeat) = (bound.addresses()[0], bound.heartbeat());
    let serving = tokio::spawn(bound.serve(state, std::future::pending()));
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let wish = taken.recv().await.unwrap();
    for _ in 0..3 {
        let beat = tokio::time::timeout(Duration::from_secs(1), heartbeat.next()).await;
        assert!(beat.is_ok());
    }
    drop(busy);
    drop(wish);
    assert_eq!(request(address, "GET", "/-/healthy", "").await.status, 200);
    serving.abort();
}

#[tokio::test]
async fn every_interface_is_listened_on() {
    let bound = Bound::bind(&Listen::Addresses(vec![":0".parse().unwrap()])).unwrap();
    let address = ([127, 0, 0, 1], bound.addresses()[0].port()).into();
    let serving = tokio::spawn(bound.serve(state(), std::future::pending()));
    assert_eq!(request(address, "GET", "/", "").await.status, 200);
    serving.abort();
}

/// The child finds the socket at the place where systemd puts it, except for the number of the descriptor.
#[test]
fn sockets_of_systemd_are_taken() {
    const CHILD: &str = "WEB_SYSTEMD_CHILD";
    if let Some(address) = std::env::var_os(CHILD) {
        let bound = Bound::bind(&Listen::Systemd).unwrap();
        assert_eq!(bound.addresses()[0].to_string().as_str(), address);
        return;
    }
    let error = Bound::bind(&Listen::Systemd).unwrap_err();
    assert!(error.to_string().contains("no socket"), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "web::plain::sockets_of_systemd_are_taken"])
        .env(CHILD, listener.local_addr().unwrap().to_string())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", "0")
        .stdin(std::os::fd::OwnedFd::from(listener))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}"
    );
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_closes_the_port() {
    let mut server = Server::start(state());
    let mut used = server.connect().await;
    exchange(&mut used, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut silent = server.connect().await;
    // Accepted, for a later connection was.
    server.get("/").await;
    server.stop();
    assert_eq!(used.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.serving.await.unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn running_request_is_answered_during_the_stop() {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    let mut server = Server::start(ServerState {
        reload: Some(wishes),
        ..state()
    });
    let (mut stream, wish) = reload(&server, &mut taken).await;
    server.stop();
    wish.reply.send(Ok(())).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(Answer::parse(&answer).body, "reloaded\n");
    assert_eq!(server.serving.await.unwrap(), 0);
}

#[tokio::test]
async fn drain_has_a_time_limit() {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    let mut state = state();
    state.limits.drain = Duration::from_millis(20);
    state.reload = Some(wishes);
    let mut server = Server::start(state);
    let (_stream, _wish) = reload(&server, &mut taken).await;
    server.stop();
    assert_eq!(server.serving.await.unwrap(), 1, "one connection was cut");
}

#[tokio::test]
async fn response_ends_at_the_time_out_of_the_scraper() {
    let (wishes, mut taken) = mpsc::channel::<Reload>(1);
    let server = Server::start(ServerState {
        reload: Some(wishes),
        ..state()
    });
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.05\r\n\r\n")
        .await
        .unwrap();
    let _wish = taken.recv().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Requests a reload. Returns its connection and the sender of its outcome.
async fn reload(server: &Server, taken: &mut mpsc::Receiver<Reload>) -> (TcpStream, Reload) {
    let mut stream = server.connect().await;
    let request = b"POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    (stream, taken.recv().await.unwrap())
}
