//! Other people's answers, for as long as they said. Time is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};

/// Enough for a node, and a bound against made-up names.
const ENTRY_COUNT_MAX: usize = 4096;
const TTL_MAX: Duration = Duration::from_secs(3600);
/// A negative answer without an SOA says nothing of how long it holds (RFC 2308 section 5).
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);

type Key = (String, RecordType);

/// Answers by name and type.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// A kept answer with its records' lives shortened by its age.
    pub(super) fn get(&self, name: &str, kind: RecordType, now: Instant) -> Option<Message> {
        let entry = self
            .entries
            .get(&(name.to_ascii_lowercase(), kind))
            .filter(|entry| now < entry.expires)?;
        let age_seconds =
            u32::try_from(now.duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut message = entry.message.clone();
        let sections = [
            &mut message.answers,
            &mut message.authorities,
            &mut message.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age_seconds);
        }
        Some(message)
    }

    /// Keeps an answer if it may be kept.
    pub(super) fn put(&mut self, name: &str, kind: RecordType, message: &Message, now: Instant) {
        let Some(life) = life_of(message) else { return };
        if self.entries.len() >= ENTRY_COUNT_MAX {
            self.make_room(now);
        }
        let entry = Entry {
            message: message.clone(),
            stored: now,
            expires: now + life,
        };
        self.entries
            .insert((name.to_ascii_lowercase(), kind), entry);
    }

    /// Drops what has expired; if nothing has, what expires next.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.expires);
        if self.entries.len() >= ENTRY_COUNT_MAX
            && let Some(key) = self
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.expires)
                .map(|(key, _)| key.clone())
        {
            self.entries.remove(&key);
        }
    }
}

fn life_of(message: &Message) -> Option<Duration> {
    let seconds = |record: &Record| Duration::from_secs(record.ttl.into());
    let life = match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => {
            message.answers.iter().map(seconds).min()?.min(TTL_MAX)
        }
        ResponseCode::NoError | ResponseCode::NXDomain => message
            .authorities
            .iter()
            .find_map(negative_life)?
            .min(NEGATIVE_TTL_MAX),
        _ => return None,
    };
    (!message.metadata.truncation && !life.is_zero()).then_some(life)
}

fn negative_life(record: &Record) -> Option<Duration> {
    match &record.data {
        RData::SOA(soa) => Some(Duration::from_secs(record.ttl.min(soa.minimum).into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{MessageType, OpCode},
        rr::{Name, rdata::A},
    };

    use super::*;

    fn answer(ttl: u32) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        let name = Name::from_ascii("example.com.").expect("a name");
        message.answers.push(Record::from_rdata(
            name,
            ttl,
            RData::A(A([192, 0, 2, 1].into())),
        ));
        message
    }

    #[test]
    fn answers_age_and_expire() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put("Example.com.", RecordType::A, &answer(60), now);
        let later = cache
            .get("example.COM.", RecordType::A, now + Duration::from_secs(20))
            .expect("kept");
        assert_eq!(later.answers[0].ttl, 40);
        assert!(
            cache
                .get("example.com.", RecordType::A, now + Duration::from_secs(60))
                .is_none()
        );
        assert!(cache.get("example.com.", RecordType::AAAA, now).is_none());
    }

    #[test]
    fn failures_are_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut failure = answer(60);
        failure.metadata.response_code = ResponseCode::ServFail;
        cache.put("example.com.", RecordType::A, &failure, now);
        assert!(cache.get("example.com.", RecordType::A, now).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..ENTRY_COUNT_MAX + 10 {
            cache.put(
                &format!("{number}.example.com."),
                RecordType::A,
                &answer(60),
                now,
            );
        }
        assert_eq!(cache.entries.len(), ENTRY_COUNT_MAX);
    }
}
