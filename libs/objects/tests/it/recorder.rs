//! A server that answers as it is told and remembers what it was asked, whole, for protocols that nothing here speaks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) struct Recorder {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// `answer` gets the method, and the path with its query; it returns a status, headers and a body.
    pub(crate) fn start(
        answer: impl Fn(&str, &str) -> (u16, String, String) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let head = read(&stream);
                let mut words = head.split(' ');
                let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
                let (status, headers, body) = answer(method, path);
                let length = body.len();
                let shown = if method == "HEAD" { "" } else { &body };
                seen.lock().unwrap().push(head.clone());
                let text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{shown}"
                );
                // Whoever asked may have gone.
                drop((&stream).write_all(text.as_bytes()));
            }
        });
        Self { address, asked }
    }

    /// One that has nothing.
    pub(crate) fn empty() -> Self {
        Self::start(|_, _| (404, String::new(), String::new()))
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads a request and returns its head.
fn read(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<u64>().ok())?
    });
    drop(std::io::copy(
        &mut reader.take(length.unwrap_or(0)),
        &mut std::io::sink(),
    ));
    head
}
