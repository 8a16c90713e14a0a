use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_proto::rr::{
    RData, Record,
    rdata::{A, SOA},
};
use tokio::net::TcpListener;

use super::*;
use crate::own_netns::{run, sh};

/// What a resolver says to its first questions, one after the other; then it is silent.
type Script = Vec<Says>;

#[derive(Clone, Copy)]
enum Says {
    Nothing,
    Code(ResponseCode),
    NoName,
    /// Too much for a datagram, and this over TCP.
    OverTcp(Ipv4Addr),
    Address(Ipv4Addr),
}

fn reply(question: &Message, says: Says) -> Option<Message> {
    let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    reply.queries.clone_from(&question.queries);
    let name = question.queries.first()?.name.clone();
    match says {
        Says::Nothing => return None,
        Says::Code(code) => reply.metadata.response_code = code,
        Says::NoName => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name.clone(), name.clone(), 1, 60, 60, 60, 60);
            let soa = Record::from_rdata(name, 60, RData::SOA(soa));
            reply.authorities.push(soa);
        }
        Says::OverTcp(_) => reply.metadata.truncation = true,
        Says::Address(ip) => {
            let answer = Record::from_rdata(name, 60, RData::A(A(ip)));
            reply.answers.push(answer);
        }
    }
    Some(reply)
}

fn scratch_file() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("knarr-forward-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A resolver at 127.0.0.NUMBER that follows a script and counts its questions.
async fn resolver(number: u8, script: Script, asked: Arc<AtomicUsize>) {
    let at = SocketAddr::new([127, 0, 0, number].into(), 53);
    let udp = UdpSocket::bind(at).await.expect("a socket");
    let tcp = TcpListener::bind(at).await.expect("a socket");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            let says = script.get(turn).copied().unwrap_or(Says::Nothing);
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let Some(reply) = reply(&question, says) else {
                continue;
            };
            let bytes = reply.to_vec().expect("bytes");
            udp.send_to(&bytes, from).await.expect("sent");
            if let Says::OverTcp(ip) = says {
                over_tcp(&tcp, ip).await;
            }
        }
    });
}

async fn over_tcp(listener: &TcpListener, ip: Ipv4Addr) {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let length = stream.read_u16().await.expect("a length");
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.expect("a question");
    let question = Message::from_vec(&bytes).expect("a question");
    let reply = reply(&question, Says::Address(ip)).expect("an answer");
    let bytes = reply.to_vec().expect("bytes");
    let length = u16::try_from(bytes.len()).expect("short");
    stream.write_u16(length).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
}

/// Asks resolvers with these scripts twice for one name: the answers, and how often each was asked.
fn check(scripts: &[Script], expected: [&str; 2], expected_asked: &[usize]) {
    run(|| {
        sh("ip link set lo up");
        let conf = scratch_file();
        let lines = (0..scripts.len()).map(|index| format!("nameserver 127.0.0.{}\n", 10 + index));
        std::fs::write(&conf, lines.collect::<String>()).expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let (found, asked) = runtime.expect("a runtime").block_on(async {
            let mut asked = Vec::new();
            for (number, script) in (10..).zip(scripts) {
                let count = Arc::new(AtomicUsize::new(0));
                resolver(number, script.clone(), count.clone()).await;
                asked.push(count);
            }
            let forwarder = Forwarder::reading(conf.clone(), Vec::new());
            let name = Name::from_ascii("Example.com.").expect("a name");
            let mut found = Vec::new();
            for _ in 0..2 {
                let answer = forwarder.ask(&name, RecordType::A).await;
                found.push(answer.map_or_else(|| "nobody".to_owned(), |answer| text(&answer)));
            }
            let counts = asked.iter().map(|count| count.load(Ordering::Relaxed));
            (found, counts.collect::<Vec<_>>())
        });
        std::fs::remove_file(conf).expect("our file");
        assert_eq!(found, expected);
        assert_eq!(asked, expected_asked);
    });
}

fn text(answer: &Message) -> String {
    let first = answer.answers.first().map(|record| record.data.to_string());
    first.unwrap_or_else(|| format!("{:?}", answer.metadata.response_code))
}

const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn the_next_resolver_is_asked_where_one_fails() {
    let good = || vec![Says::Address(IP)];
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotImp,
    ] {
        check(
            &[vec![Says::Code(code)], good()],
            ["192.0.2.1", "192.0.2.1"],
            &[1, 1],
        );
    }
    let failing = || vec![Says::Code(ResponseCode::ServFail); 4];
    check(&[failing(), failing()], ["ServFail", "ServFail"], &[2, 2]);
    check(&[good(), good()], ["192.0.2.1", "192.0.2.1"], &[1, 0]);
}

#[test]
fn a_lost_datagram_is_sent_again() {
    check(
        &[vec![Says::Nothing, Says::Address(IP)]],
        ["192.0.2.1", "192.0.2.1"],
        &[2],
    );
}

#[test]
fn what_does_not_exist_is_remembered_and_no_other_resolver_is_asked() {
    let no_name = vec![Says::NoName];
    check(&[no_name, vec![]], ["NXDomain", "NXDomain"], &[1, 0]);
}

#[test]
fn what_is_cut_is_asked_for_over_tcp() {
    let over_tcp = vec![Says::OverTcp(IP)];
    check(&[over_tcp], ["192.0.2.1", "192.0.2.1"], &[1]);
}

#[test]
fn a_resolver_that_asks_back_costs_a_question_an_attempt_and_no_answer() {
    run(|| {
        sh("ip link set lo up");
        let folder = scratch_file();
        std::fs::write(&folder, "nameserver 127.0.0.7\n").expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let asked = runtime.expect("a runtime").block_on(async {
            let forwarder = Arc::new(Forwarder::reading(folder.clone(), Vec::new()));
            let name = Name::from_ascii("example.com.").expect("a name");
            let looping = UdpSocket::bind("127.0.0.7:53").await.expect("a socket");
            let back = |forwarder: Arc<Forwarder>, name: Name| async move {
                let mut buffer = [0; 512];
                let mut questions = 0;
                while looping.recv_from(&mut buffer).await.is_ok() {
                    questions += 1;
                    let (forwarder, name) = (forwarder.clone(), name.clone());
                    tokio::spawn(async move { forwarder.ask(&name, RecordType::A).await });
                    if questions > ATTEMPTS_MIN {
                        break;
                    }
                }
                questions
            };
            tokio::select! {
                answer = forwarder.ask(&name, RecordType::A) => answer,
                questions = back(forwarder.clone(), name.clone()) => panic!("{questions} questions"),
            }
        });
        assert!(asked.is_none());
        std::fs::remove_file(folder).expect("our file");
    });
}
