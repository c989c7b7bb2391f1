//! `flumina-test-s3 DIR`: serves the directories in it as buckets until it is killed, and prints where.

use std::io::Write as _;
use std::path::PathBuf;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: flumina-test-s3 DIR"));
    };
    let server = flumina_testkit_s3::Server::start(&root).await;
    writeln!(std::io::stdout(), "{}", server.endpoint())?;
    std::future::pending().await
}
