//! Hears from the bus when systemd-resolved comes, which is when it has forgotten what it was told. Tells it nothing.

use std::future;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::bus::{Call, Connection, Error, Message};
use super::{BUS, NAME, is_in_network_of_host};

const RULE: &str = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
                    member='NameOwnerChanged',arg0='org.freedesktop.resolve1'";

/// Word of resolved's comings; none where there is no bus.
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<Ears>);

impl Watch {
    /// Listens, if it does not already; a host without a bus is asked again the next time.
    pub(crate) async fn open(&mut self) {
        let bus = Path::new(BUS);
        if self.0.is_some() || !is_in_network_of_host() || !bus.exists() {
            return;
        }
        match Ears::open(bus).await {
            Ok(ears) => self.0 = Some(ears),
            Err(error) => tracing::debug!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the bus"
            ),
        }
    }

    /// Returns when resolved has come, or when it may have come unheard.
    pub(crate) async fn returned(&mut self) {
        let Some(ears) = &mut self.0 else {
            return future::pending().await;
        };
        if let Err(error) = ears.returned().await {
            tracing::debug!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the bus"
            );
            self.0 = None;
        }
    }
}

/// A connection on which the bus tells who has resolved's name.
#[derive(Debug)]
pub(super) struct Ears {
    stream: UnixStream,
    /// What was heard and not yet understood, so that a cancelled wait loses nothing.
    heard: Vec<u8>,
}

impl Ears {
    pub(super) async fn open(bus: &Path) -> Result<Self, Error> {
        let bus = bus.to_owned();
        let stream = tokio::task::spawn_blocking(move || {
            let mut connection = Connection::open(&bus)?;
            let driver = "org.freedesktop.DBus";
            let mut add = Call::new(driver, "/org/freedesktop/DBus", driver, "AddMatch", "s");
            add.body.text(RULE);
            connection.call(&add)?;
            connection.into_stream()
        });
        let stream = stream.await.map_err(|_| Error::Nonsense)??;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            heard: Vec::new(),
        })
    }

    /// When the name has a new owner; that it has lost its owner is no news for anybody.
    pub(super) async fn returned(&mut self) -> Result<(), Error> {
        loop {
            while let Some((message, length)) = Message::first(&self.heard)? {
                self.heard.drain(..length);
                if has_come(&message) {
                    return Ok(());
                }
            }
            if self.stream.read_buf(&mut self.heard).await? == 0 {
                return Err(Error::Closed);
            }
        }
    }
}

/// `NameOwnerChanged` has the name, its old owner and its new one.
fn has_come(message: &Message) -> bool {
    match message.texts().as_deref() {
        Some([name, _, owner]) => name == NAME && !owner.is_empty(),
        Some(_) | None => false,
    }
}
