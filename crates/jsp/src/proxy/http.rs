//! HTTP CONNECT (RFC 9110, section 9.3.6) in HTTP/1.1.

use std::io;

use jsp_crypto::base64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{malformed, refused};
use crate::carrier::stream::BoxStream;
use crate::remote::Target;

/// Longest head of an answer, in bytes.
const HEAD_LEN_MAX: usize = 8 << 10;

/// Asks for a connection to `target`.
// spec: CAR-23
pub(super) async fn connect(
    stream: &mut BoxStream,
    target: &Target,
    credentials: Option<&(String, String)>,
) -> io::Result<()> {
    let authorization = match credentials {
        Some((user, password)) => {
            let secret = base64::encode(format!("{user}:{password}").as_bytes());
            format!("Proxy-Authorization: Basic {secret}\r\n")
        }
        None => String::new(),
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(stream).await?;
    let mut words = head.split(|byte| byte.is_ascii_whitespace());
    let version = words.next().unwrap_or_default();
    if !version.starts_with(b"HTTP/1.") {
        return Err(malformed("this is no HTTP proxy"));
    }
    match words.next() {
        Some([b'2', _, _]) => Ok(()),
        Some(b"407") => Err(refused("the proxy asks for another user and password")),
        Some(code) => {
            let code = String::from_utf8_lossy(code);
            Err(refused(format!("the proxy does not connect: status {code}")))
        }
        None => Err(malformed("the proxy's answer has no status")),
    }
}

/// Reads to the empty line and no further: what follows belongs to the server.
async fn read_head(stream: &mut BoxStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_LEN_MAX {
            return Err(malformed("the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    /// spec-test: CAR-23
    async fn answers_are_understood_or_refused() {
        let cases: [(&[u8], bool); 6] = [
            (b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nrest", true),
            (b"HTTP/1.0 204 x\r\n\r\n", true),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false),
            (b"HTTP/1.1 403\r\n\r\n", false),
            (b"SSH-2.0-x\r\n\r\n", false),
            (b"HTTP/1.1 200", false),
        ];
        for (answer, granted) in cases {
            let (near, mut far) = tokio::io::duplex(4096);
            let mut near: BoxStream = Box::new(near);
            far.write_all(answer).await.unwrap();
            far.shutdown().await.unwrap();
            let target = Target::Name("a.test".to_owned(), 443);
            let login = ("a".to_owned(), "b".to_owned());
            let result = connect(&mut near, &target, Some(&login)).await;
            assert_eq!(result.is_ok(), granted, "{result:?}");
            if answer.ends_with(b"rest") {
                let mut rest = [0; 4];
                near.read_exact(&mut rest).await.unwrap();
                assert_eq!(&rest, b"rest");
                let mut said = [0; 128];
                let len = far.read(&mut said).await.unwrap();
                let text = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic YTpi\r\n\r\n";
                assert_eq!(String::from_utf8_lossy(&said[..len]), text);
            }
        }
    }

    #[tokio::test]
    async fn an_endless_answer_ends() {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let mut near: BoxStream = Box::new(near);
        far.write_all(&vec![b'a'; HEAD_LEN_MAX + 1]).await.unwrap();
        let target = Target::Name("a.test".to_owned(), 443);
        assert!(connect(&mut near, &target, None).await.is_err());
    }
}
