//! A stop that comes before the controllers have heard of anything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Config, Server};

/// A task that waits in vain never ends; one that ends does so at once.
const END_TIME_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn controllers_that_are_stopped_before_they_begin_end() {
    let name = format!("knarr-stop-{}", uuid::Uuid::new_v4());
    let directory = std::env::temp_dir().join(name);
    let server = Server::open(Config::for_tests(directory.clone()))
        .await
        .expect("a server");
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = tokio::time::timeout(END_TIME_MAX, server.control(stop)).await;
    drop(server);
    std::fs::remove_dir_all(&directory).expect("the server's folder");
    ended.expect("the controllers end");
}
