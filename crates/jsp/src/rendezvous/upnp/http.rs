//! Questions to a router by HTTP/1.1 (RFC 9112), one a connection: bounded in time and in length, whatever answers.
//! Nothing sends it elsewhere: redirections are answers like others.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer, head and all, in bytes. Descriptions of routers have some 10,000.
const ANSWER_LEN_MAX: u64 = 256 << 10;
/// A question and its answer take no longer.
const WAIT: Duration = Duration::from_secs(3);

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Asks `server`, which closes the connection after its answer, or is not waited for.
pub(super) async fn ask(server: SocketAddrV4, request: &str) -> io::Result<Answer> {
    let asked = async { exchange(TcpStream::connect(server).await?, request).await };
    timeout(WAIT, asked).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Answer> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = BufReader::new(stream).take(ANSWER_LEN_MAX);
    let status = status(&line(&mut answer).await?)?;
    let (mut len, mut is_chunked) = (None, false);
    loop {
        let field = line(&mut answer).await?;
        let Some((name, value)) = field.split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "content-length" => len = Some(value.parse().map_err(|_| malformed())?),
            "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    match len {
        _ if is_chunked => chunks(&mut answer, &mut body).await?,
        Some(len) => part(&mut answer, len, &mut body).await?,
        None => drop(answer.read_to_end(&mut body).await?),
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the router's answer is no HTTP that is understood")
}

fn status(line: &str) -> io::Result<u16> {
    let mut words = line.split_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok());
    status.filter(|_| is_http).ok_or_else(malformed)
}

/// The next line, without its end.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    if !line.ends_with(b"\n") {
        return Err(malformed());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The next `len` bytes; no memory is set aside for more than have come.
async fn part(from: &mut (impl AsyncRead + Unpin), len: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(len).read_to_end(body).await?;
    if read as u64 == len { Ok(()) } else { Err(malformed()) }
}

/// A body in chunks (RFC 9112, section 7.1).
async fn chunks(from: &mut (impl AsyncBufRead + Unpin), body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let head = line(from).await?;
        let len = head.split(';').next().unwrap_or_default().trim();
        match u64::from_str_radix(len, 16).map_err(|_| malformed())? {
            0 => return Ok(()),
            len => part(from, len, body).await?,
        }
        if !line(from).await?.is_empty() {
            return Err(malformed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(answer: &[u8]) -> io::Result<Answer> {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        exchange(near, "GET / HTTP/1.1\r\n\r\n").await
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_is_said_to_be() {
        let bodies: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodyrest",
            b"HTTP/1.0 200 OK\n\nbody",
            b"HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nbod\r\n1\r\ny\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
        ];
        for answer in bodies {
            let answer = read(answer).await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, "body"));
        }
        assert_eq!(read(b"HTTP/1.1 500 No\r\n\r\n").await.unwrap().status, 500);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        let answers: [&[u8]; 9] = [
            b"",
            b"\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 99999999 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nbody",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nbody",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ];
        for answer in answers {
            assert!(read(answer).await.is_err(), "{}", String::from_utf8_lossy(answer));
        }
    }

    #[tokio::test]
    async fn an_endless_answer_ends() {
        let much = vec![b'a'; ANSWER_LEN_MAX as usize + 1];
        assert!(read(&much).await.is_err());
        let heads: [&[u8]; 2] = [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx: "];
        for head in heads {
            assert!(read(&[head, &much].concat()).await.is_err());
        }
        let cut = read(&[b"HTTP/1.1 200 OK\r\n\r\n", &much[..]].concat()).await.unwrap();
        assert!((cut.body.len() as u64) < ANSWER_LEN_MAX);
    }
}
