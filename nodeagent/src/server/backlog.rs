//! Queues that share room, counted in bytes: who puts something in waits until there is room for it. Looks at nothing in them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

/// What an entry takes beside its bytes, so that those without any are bounded too.
const ENTRY_BYTES: usize = 64;

/// What is queued.
pub(super) trait Measured {
    fn size(&self) -> usize;
}

impl Measured for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

/// Room for what is queued and not yet done with.
#[derive(Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    bytes: u32,
}

/// Nobody takes anything out any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Why something was not queued at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Gone,
}

pub(super) struct Sender<T> {
    entries: mpsc::UnboundedSender<Entry<T>>,
    room: Room,
}

pub(super) struct Receiver<T> {
    entries: mpsc::UnboundedReceiver<Entry<T>>,
}

/// Something taken out, which gives its room back when it is dropped.
pub(super) struct Entry<T> {
    pub(super) value: T,
    _room: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(bytes: u32) -> Self {
        let free = Arc::new(Semaphore::new(bytes as usize));
        Room { free, bytes }
    }

    pub(super) fn queue<T: Measured>(&self) -> (Sender<T>, Receiver<T>) {
        let (sender, entries) = mpsc::unbounded_channel();
        let room = self.clone();
        let sender = Sender {
            entries: sender,
            room,
        };
        (sender, Receiver { entries })
    }

    /// What is larger than all of the room takes all of it.
    fn needed<T: Measured>(&self, value: &T) -> u32 {
        let bytes = value.size().saturating_add(ENTRY_BYTES);
        u32::try_from(bytes).map_or(self.bytes, |bytes| bytes.min(self.bytes))
    }
}

impl<T: Measured> Sender<T> {
    /// Queues something as soon as there is room.
    pub(super) async fn send(&self, value: T) -> Result<(), Gone> {
        let needed = self.room.needed(&value);
        let room = self.room.free.clone().acquire_many_owned(needed);
        let room = tokio::select! {
            room = room => room.map_err(|_: AcquireError| Gone)?,
            () = self.entries.closed() => return Err(Gone),
        };
        let entry = Entry { value, _room: room };
        self.entries.send(entry).map_err(|_| Gone)
    }

    /// Queues something if there is room.
    pub(super) fn try_send(&self, value: T) -> Result<(), Refused> {
        let needed = self.room.needed(&value);
        let room = self.room.free.clone().try_acquire_many_owned(needed);
        let room = room.map_err(|error| match error {
            TryAcquireError::NoPermits => Refused::Full,
            TryAcquireError::Closed => Refused::Gone,
        })?;
        let entry = Entry { value, _room: room };
        self.entries.send(entry).map_err(|_| Refused::Gone)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.entries.is_closed()
    }
}

impl<T> Receiver<T> {
    /// What comes next; `None` when nobody can send any more.
    pub(super) async fn recv(&mut self) -> Option<Entry<T>> {
        self.entries.recv().await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            entries: self.entries.clone(),
            room: self.room.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    #[tokio::test]
    async fn room_is_shared_and_comes_back_when_an_entry_is_done_with() {
        let room = Room::new(1000);
        let ((one, mut first), (two, mut second)) = (room.queue(), room.queue());
        assert_eq!(one.try_send(piece(800)), Ok(()));
        assert_eq!(two.try_send(piece(800)), Err(Refused::Full));
        let taken = first.recv().await.unwrap();
        assert_eq!(two.try_send(piece(800)), Err(Refused::Full));
        let (sent, ()) = tokio::join!(two.send(piece(800)), async { drop(taken) });
        assert_eq!(sent, Ok(()));
        assert_eq!(second.recv().await.unwrap().value.len(), 800);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_room_passes_alone() {
        let room = Room::new(1000);
        let (sender, mut receiver) = room.queue();
        assert_eq!(sender.send(piece(5000)).await, Ok(()));
        assert_eq!(sender.try_send(piece(0)), Err(Refused::Full));
        drop(receiver.recv().await);
        assert_eq!(sender.try_send(piece(0)), Ok(()));
    }

    #[tokio::test]
    async fn a_queue_that_nobody_reads_ends_those_who_wait() {
        let room = Room::new(100);
        let ((sender, receiver), (other, _other_receiver)) = (room.queue(), room.queue());
        other.send(piece(100)).await.unwrap();
        let (sent, ()) = tokio::join!(sender.send(piece(1)), async { drop(receiver) });
        assert_eq!(sent, Err(Gone));
        assert!(sender.is_closed());
    }
}
