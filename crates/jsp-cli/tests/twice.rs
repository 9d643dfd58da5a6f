//! How much of a file goes twice when its sender is killed in the midst of it. It goes by TCP, where what leaves can be
//! counted: nothing is sent again on the way. `JSP_TRANSFER_MB=200 cargo test -p jsp-cli --test twice -- --nocapture`
//! does it with 200 MB and prints the figure.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use support::{Place, Server, begun, names, noise, wait_until_begun};

/// What may go twice, in bytes.
const TWICE_MAX: f64 = (1 << 20) as f64;

/// A forwarder of streams, which tells of each how many bytes the client has sent once it has ended.
struct Counted {
    address: SocketAddr,
    ended: Receiver<u64>,
}

impl Counted {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, ended) = channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, there) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let back = (there.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || forward(back.0, back.1));
                let tell = tell.clone();
                thread::spawn(move || {
                    let counted = forward(client, there);
                    // Nobody listens when the test is over.
                    let _ = tell.send(counted);
                });
            }
        });
        Self { address, ended }
    }
}

/// Until there is no more. A process that is killed may leave its stream in any way; what it has sent must not be lost here
/// for that, so that the other side's stream ends in order.
fn forward(mut from: TcpStream, mut to: TcpStream) -> u64 {
    let mut buffer = vec![0; 64 << 10];
    let mut counted = 0;
    let mut is_taken = true;
    loop {
        let len = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(len) => len,
            Err(_) => 0,
        };
        counted += len as u64;
        if len == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return counted;
        }
        is_taken = is_taken && to.write_all(&buffer[..len]).is_ok();
    }
}

#[test]
fn a_killed_sender_sends_little_twice() {
    let megabytes = std::env::var("JSP_TRANSFER_MB").map_or(48, |text| text.parse().unwrap());
    let len = megabytes * 1_000_000;
    let place = Place::new("twice");
    let inbox = place.path("inbox");
    let content = noise(9, len);
    place.write("long.bin", &content);
    let by_tcp = ["--carrier", "tcp", "--no-udp"];
    let server = Server::start(&place, &inbox, &by_tcp);
    let counted = Counted::to(server.address().parse().unwrap());
    let uri = server.uri.replace(server.address(), &counted.address.to_string());
    let send = || {
        let mut command = place.jsp();
        command.args(["send", "--json", "long.bin", &uri]).args(by_tcp);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut first = send();
    wait_until_begun(&inbox, &mut first, len as u64 / 3);
    first.kill().unwrap();
    first.wait().unwrap();
    let sent_first = counted.ended.recv().unwrap() as f64;
    let second = support::Finished::of(send().wait_with_output().unwrap()).left_with(0);
    let sent_second = counted.ended.recv().unwrap() as f64;
    let already = begun(&second.out).unwrap();
    assert!((len as u64 / 3..len as u64).contains(&already), "{already}");
    // The second has sent the rest once: so many bytes of the stream for each of the file.
    let cost = sent_second / (len as u64 - already) as f64;
    let twice = sent_first / cost - already as f64;
    println!(
        "of {len} bytes {already} were there; {twice:.0} went twice, give or take the handshake"
    );
    assert!(twice <= TWICE_MAX, "{twice}");
    assert!(fs::read(inbox.join("long.bin")).unwrap() == content);
    assert_eq!(names(&inbox), ["long.bin"]);
}
