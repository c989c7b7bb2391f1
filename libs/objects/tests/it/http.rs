//! Inputs that a web server has.

use std::io::{Read as _, Write as _};

use crate::fixture::Fixture;
use crate::recorder::Recorder;

/// Answers every request for `/moved` with a redirect, others with their own path and query.
fn serve() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let mut words = request.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let answer = if target.starts_with("/moved") {
                "HTTP/1.1 302 Found\r\nlocation: /data.csv?token=secret\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            } else if target.starts_with("/none") {
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    .to_owned()
            } else {
                let body = if method == "HEAD" { "" } else { target };
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT\r\netag: \"x\"\r\nconnection: close\r\n\r\n{body}",
                    target.len()
                )
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn web_addresses_are_fetched_with_their_query_and_redirects() {
    let address = serve();
    let fixture = Fixture::new().await;
    let to = fixture.path("to/data.csv");
    for path in ["/a/b.csv?token=secret", "/moved"] {
        let report = fixture
            .download(&format!("http://{address}{path}"), &to)
            .await;
        assert_eq!(report.reason, "", "{}", report.message);
        assert!(
            std::fs::read_to_string(&to)
                .unwrap()
                .ends_with("?token=secret")
        );
    }
    let report = fixture
        .download(&format!("http://{address}/none?token=secret"), &to)
        .await;
    assert_eq!(report.reason, "INPUT_UNAVAILABLE");
    assert!(!report.message.contains("secret"), "{}", report.message);
}

#[tokio::test]
async fn an_address_that_is_signed_for_one_get_is_asked_once() {
    let server = Recorder::start(|method, path| match method {
        "GET" => (200, String::new(), path.to_owned()),
        _ => (403, String::new(), String::new()),
    });
    let fixture = Fixture::new().await;
    let to = fixture.path("to/data.csv");
    let path = "/data.csv?X-Amz-Signature=x";
    let report = fixture
        .download(&format!("{}{path}", server.endpoint()), &to)
        .await;
    assert_eq!(report.reason, "", "{}", report.message);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), path);
    let asked = server.asked();
    assert!(
        asked.len() == 1 && asked[0].starts_with("GET "),
        "{asked:?}"
    );
}
