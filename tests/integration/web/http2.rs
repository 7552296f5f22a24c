//! HTTP/2 by hand, for clients that a library does not let one be: they open streams and read nothing.

use tokio_rustls::client::TlsStream;

use super::secure::{Files, TLS, client, handshake};
use super::*;

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

struct Http2 {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
    next_id: u32,
}

impl Http2 {
    /// Connects with this many bytes of room for each response.
    async fn connect(files: &Files, server: &Server, window: u32) -> Self {
        let mut config = client(&files.authority, None, rustls::DEFAULT_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut http2 = Self {
            stream: handshake(server, config).await.unwrap(),
            received: Vec::new(),
            next_id: 1,
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        http2.stream.write_all(preface).await.unwrap();
        let [a, b, c, d] = window.to_be_bytes();
        http2.send(SETTINGS, 0, 0, &[0, 4, a, b, c, d]).await;
        http2
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
        self.stream
            .write_all(&[&head, payload].concat())
            .await
            .unwrap();
    }

    /// GET, without reading anything.
    async fn get(&mut self, path: &str) -> u32 {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ] {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let id = self.next_id;
        self.next_id += 2;
        self.send(HEADERS, 5, id, &block).await;
        id
    }

    /// The next frame: its type, its stream and its length; none if the server has closed the connection.
    async fn frame(&mut self) -> Option<(u8, u32, usize)> {
        loop {
            if let Some((head, rest)) = self.received.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if rest.len() >= length {
                    let frame = (head[3], id, length);
                    self.received.drain(..9 + length);
                    return Some(frame);
                }
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads until a frame of this type.
    async fn until(&mut self, kind: u8) -> u32 {
        loop {
            let (found, id, _) = self.frame().await.expect("the connection is open");
            if found == kind {
                return id;
            }
        }
    }
}

/// A state with TLS whose metrics have a body.
fn secure_state(files: &Files) -> ServerState {
    ServerState {
        subscriber: with_figures(),
        web_config: Some(files.load().unwrap()),
        ..state()
    }
}

#[tokio::test]
async fn streams_without_progress_are_reset_and_the_last_ends_the_connection() {
    let files = Files::new(TLS);
    let mut state = secure_state(&files);
    state.limits.stall = Duration::from_millis(100);
    let server = Server::start(state);
    // The answer of `/-/healthy` has eight bytes.
    for window in [0, 1, 7] {
        let mut deaf = Http2::connect(&files, &server, window).await;
        let mut open = Vec::new();
        for path in ["/-/healthy", "/", "/metrics", "/nothing"] {
            open.push(deaf.get(path).await);
        }
        let mut sent = 0;
        while let Some((kind, id, length)) = deaf.frame().await {
            match kind {
                RESET => open.retain(|open| *open != id),
                DATA => sent += length,
                _ => {}
            }
        }
        // The end of the connection stands for those that stalled with the last.
        assert!(open.len() <= 1, "{window}: not reset: {open:?}");
        assert_eq!(sent, 4 * window as usize);
    }
}

/// A stream of which all is read is not reset, however long the connection is idle then.
#[tokio::test]
async fn connection_with_read_streams_stays_open() {
    let files = Files::new(TLS);
    let mut state = secure_state(&files);
    state.limits.stall = Duration::from_millis(100);
    let server = Server::start(state);
    let mut reader = Http2::connect(&files, &server, 8).await;
    // Another one that stalls is the measure of time.
    let mut deaf = Http2::connect(&files, &server, 0).await;
    for _ in 0..3 {
        let id = reader.get("/-/healthy").await;
        let mut length = 0;
        while length < 8 {
            let (kind, found, more) = reader.frame().await.unwrap();
            assert_ne!(kind, RESET);
            if (kind, found) == (DATA, id) {
                length += more;
            }
        }
    }
    deaf.get("/").await;
    while deaf.frame().await.is_some() {}
    let id = reader.get("/-/healthy").await;
    assert_eq!(reader.until(DATA).await, id);
}

#[tokio::test]
async fn scrapes_that_stall_yield_to_others() {
    let files = Files::new(TLS);
    let mut state = secure_state(&files);
    state.requests_max = 2;
    let server = Server::start(state);
    let mut deaf = Http2::connect(&files, &server, 0).await;
    for _ in 0..2 {
        deaf.get("/metrics").await;
        deaf.until(HEADERS).await;
    }
    // Refused until they have stalled long enough.
    for _ in 0..2 {
        let mut other = Http2::connect(&files, &server, 0).await;
        other.get("/metrics").await;
        other.until(HEADERS).await;
        while read_metrics(&files, &server).await != 200 {}
    }
    deaf.until(RESET).await;
}

async fn read_metrics(files: &Files, server: &Server) -> u16 {
    let config = client(&files.authority, None, rustls::DEFAULT_VERSIONS);
    let stream = handshake(server, config).await.unwrap();
    ask(stream, "GET", "/metrics", "").await.unwrap().status
}

#[tokio::test]
async fn a_probe_gets_a_slot_from_streams_that_are_not_read() {
    let files = Files::new(TLS);
    let mut state = secure_state(&files);
    state.limits.connections = 3;
    let server = Server::start(state);
    let mut others = Vec::new();
    for path in ["/", "/-/healthy", "/metrics", "/", "/metrics"] {
        let mut deaf = Http2::connect(&files, &server, 0).await;
        deaf.get(path).await;
        others.push(deaf);
        let config = client(&files.authority, None, rustls::DEFAULT_VERSIONS);
        let stream = handshake(&server, config).await.unwrap();
        let probe = ask(stream, "GET", "/-/healthy", "").await.unwrap();
        assert_eq!(probe.status, 200, "{path}");
    }
}

#[tokio::test]
async fn connections_are_not_kept_when_slots_are_scarce() {
    let files = Files::new(TLS);
    let mut state = secure_state(&files);
    state.limits.connections = 8;
    let server = Server::start(state);
    let mut first = Http2::connect(&files, &server, 100).await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(Http2::connect(&files, &server, 100).await);
    }
    first.get("/-/healthy").await;
    first.until(GOAWAY).await;
}
