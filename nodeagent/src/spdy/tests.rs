//! Sessions as a client drives them, and bytes that no client would send.

use proptest::prelude::*;

use super::*;

/// A client's first SYN_STREAM.
fn open(
    encoder: &mut headers::Encoder,
    stream: StreamId,
    pairs: &[(&str, &str)],
) -> Result<Bytes, headers::Error> {
    let block = encoder.encode(pairs)?;
    let end = End::Open;
    Ok(Frame::SynStream { stream, block, end }.to_bytes())
}

#[test]
fn streams_open_carry_data_and_end() {
    let (mut session, mut encoder) = (Session::new().unwrap(), headers::Encoder::new().unwrap());
    let opened = open(&mut encoder, 1, &[("port", "80")]).unwrap();
    let (first, second) = opened.split_at(11);
    assert_eq!(session.receive(first).unwrap(), []);
    let headers = vec![("port".to_owned(), "80".to_owned())];
    let end = End::Open;
    assert_eq!(
        session.receive(second).unwrap(),
        [Event::Opened {
            stream: 1,
            headers,
            end
        }]
    );
    session.reply(1).unwrap();
    let mut reply = BytesMut::from(&session.take_outgoing()[..]);
    let Some(Frame::SynReply { stream, block, .. }) = frame::take(&mut reply).unwrap() else {
        panic!("no SYN_REPLY")
    };
    assert_eq!(stream, 1);
    assert_eq!(headers::Decoder::new().decode(&block).unwrap(), []);
    let data = Frame::Data {
        stream: 1,
        payload: Bytes::from_static(b"hello"),
        end: End::Finished,
    };
    assert_eq!(
        session.receive(&data.to_bytes()).unwrap(),
        [Event::Data {
            stream: 1,
            payload: Bytes::from_static(b"hello"),
            end: End::Finished
        }]
    );
}

#[test]
fn only_new_odd_streams_may_be_opened() {
    let (mut session, mut encoder) = (Session::new().unwrap(), headers::Encoder::new().unwrap());
    for (stream, is_opened) in [(2, false), (3, true), (3, false), (1, false), (5, true)] {
        let frame = open(&mut encoder, stream, &[]).unwrap();
        assert_eq!(
            session.receive(&frame).unwrap().len(),
            usize::from(is_opened)
        );
        let status = ResetStatus::ProtocolError as u32;
        let refusal = Frame::Reset { stream, status }.to_bytes();
        let answer = session.take_outgoing();
        assert_eq!(answer == refusal, !is_opened, "{stream}");
    }
}

#[test]
fn only_the_clients_pings_are_answered() {
    let mut session = Session::new().unwrap();
    for (id, answer) in [(1, true), (2, false), (7, true)] {
        let ping = Frame::Ping(id).to_bytes();
        session.receive(&ping).unwrap();
        assert_eq!(session.take_outgoing() == ping, answer);
    }
}

/// The smallest window there is, and updates that overflow it, change nothing of what is carried either way.
#[test]
fn windows_of_a_peer_are_passed_over() {
    const INITIAL_WINDOW_SIZE: u32 = 7;
    const PIECE_BYTES: usize = 32 << 10;
    const DEFAULT_WINDOW_BYTES: usize = 64 << 10;
    let (mut session, mut encoder) = (Session::new().unwrap(), headers::Encoder::new().unwrap());
    let settings = Frame::Settings {
        entries: vec![(INITIAL_WINDOW_SIZE, 1)],
    };
    assert!(session.receive(&settings.to_bytes()).unwrap().is_empty());
    let opened = open(&mut encoder, 1, &[]).unwrap();
    assert_eq!(session.receive(&opened).unwrap().len(), 1);
    let piece = Frame::Data {
        stream: 1,
        payload: vec![b'x'; PIECE_BYTES].into(),
        end: End::Open,
    };
    let mut received = 0;
    while received < DEFAULT_WINDOW_BYTES * 4 {
        for (stream, delta) in [(0, u32::MAX >> 1), (1, u32::MAX >> 1), (7, 0)] {
            let update = Frame::WindowUpdate { stream, delta };
            assert!(session.receive(&update.to_bytes()).unwrap().is_empty());
        }
        let events = session.receive(&piece.to_bytes()).unwrap();
        let [Event::Data { payload, .. }] = events.as_slice() else {
            panic!("{events:?}")
        };
        received += payload.len();
    }
    // Nothing is said about windows, which spdystream would take for an error.
    assert!(session.take_outgoing().is_empty());
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = 1..0x8000_0000_u32;
    let end = prop_oneof![Just(End::Open), Just(End::Finished)];
    let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    (stream, end, bytes, any::<u32>(), 0..8_usize).prop_map(
        |(stream, end, payload, word, choice)| {
            let block = payload.clone();
            match choice {
                0 => Frame::SynStream { stream, block, end },
                1 => Frame::SynReply { stream, block, end },
                2 => Frame::Headers { stream, block, end },
                3 => Frame::Reset {
                    stream,
                    status: word,
                },
                4 => Frame::Ping(word),
                5 => Frame::WindowUpdate {
                    stream,
                    delta: word,
                },
                6 => Frame::Settings {
                    entries: vec![(word, stream); payload.len()],
                },
                _ => Frame::Data {
                    stream,
                    payload,
                    end,
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(frames in prop::collection::vec(any_frame(), 1..5)) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        for frame in frames {
            prop_assert_eq!(frame::take(&mut bytes), Ok(Some(frame)));
        }
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Session::new().unwrap().receive(&bytes);
    }

    #[test]
    fn arbitrary_control_frames_never_panic(
        kind in 0_u8..12,
        flags in any::<u8>(),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut frame = vec![0x80, 3, 0, kind, flags, 0, 0, bytes.len() as u8];
        frame.extend(bytes);
        let _ = Session::new().unwrap().receive(&frame);
    }
}
