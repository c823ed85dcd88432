//! A line between two nodes: TLS on which each knows the other by its key, and by nothing else.
//!
//! Each side shows a certificate of its own making, only because TLS wants one: who issued it, for
//! whom and until when is not looked at, so a machine whose clock says 1970 is understood as well.
//! What counts is the key in it, which the other side has proved to own, and which must be the one
//! that stands in its node's register.
//!
//! The limit: nothing is resumed and nothing remembered, so each line costs a whole handshake, about
//! a millisecond.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::Id;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509Name};
use tokio::net::{TcpSocket, TcpStream};
use tokio_openssl::SslStream;

use super::identity::Identity;
use crate::kinds::digest::hex;
use crate::ports::Fault;

/// How long the other node may take to answer a call, its side of the handshake included.
pub const DIAL_MAX: Duration = Duration::from_secs(5);
/// How long who calls may take for his side of the handshake.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// A line is asked after so many seconds of silence whether the other side is still there …
const KEEP_IDLE_S: u32 = 15;
/// … again after so many more …
const KEEP_EVERY_S: u32 = 5;
/// … and is given up after so many questions, or so many milliseconds with what was sent not
/// acknowledged: whoever follows a log of a machine that has lost its power hears of it after 30 s.
const KEEP_COUNT: u32 = 3;
const UNHEARD_MS: u32 = 30_000;

/// A line that stands.
pub type Line = SslStream<TcpStream>;

/// Makes lines, under this node's key.
#[derive(Clone)]
pub struct Lines {
    caller: SslContext,
    called: SslContext,
}

impl Lines {
    /// Lines of the node with this key.
    pub fn new(identity: &Identity) -> Result<Self, Fault> {
        let make = || {
            let certificate = certificate(identity)?;
            Ok(Self {
                caller: context(SslMethod::tls_client(), identity, &certificate)?,
                called: context(SslMethod::tls_server(), identity, &certificate)?,
            })
        };
        make().map_err(|error: ErrorStack| {
            Fault::stalled(format!("TLS can't be had under the node's key: {error}"))
        })
    }

    /// Calls the node with that key. Nothing is said on the line before the key is known to be it.
    /// `from` is the address by which the other node knows this one, and lets it in.
    pub async fn dial(
        &self,
        at: SocketAddr,
        from: Option<IpAddr>,
        key: &str,
    ) -> Result<Line, Fault> {
        let calling = async {
            let stream = connect(at, from).await.map_err(Fault::transient)?;
            attend(&stream).map_err(Fault::transient)?;
            let mut line = line(&self.caller, stream)?;
            Pin::new(&mut line).connect().await.map_err(|error| {
                Fault::transient(format!("no agent answers there: TLS: {error}"))
            })?;
            Ok(line)
        };
        let line = tokio::time::timeout(DIAL_MAX, calling).await;
        let line =
            line.map_err(|_| Fault::deadline(format!("no answer within {DIAL_MAX:?}")))??;
        match key_of(line.ssl()) {
            Some(found) if found == key => Ok(line),
            _ => Err(Fault::stalled(
                "who answers there has another key than the state store has of that node",
            )),
        }
    }

    /// Answers a call. The caller's key is proved; whose it is, is for others to look up.
    pub async fn take(&self, stream: TcpStream) -> Result<(Line, String), Fault> {
        attend(&stream).map_err(Fault::transient)?;
        let mut line = line(&self.called, stream)?;
        let taken = tokio::time::timeout(TAKE_MAX, Pin::new(&mut line).accept()).await;
        taken
            .map_err(|_| Fault::deadline("the caller does not finish the handshake"))?
            .map_err(Fault::transient)?;
        let key = key_of(line.ssl());
        key.map(|key| (line, key))
            .ok_or_else(|| Fault::stalled("the caller's key is no Ed25519 key"))
    }
}

fn line(context: &SslContext, stream: TcpStream) -> Result<Line, Fault> {
    Ssl::new(context).and_then(|ssl| SslStream::new(ssl, stream)).map_err(Fault::stalled)
}

/// The key that the other side has proved to own.
fn key_of(ssl: &SslRef) -> Option<String> {
    let key = ssl.peer_certificate()?.public_key().ok()?;
    let is_ours = key.id() == Id::ED25519;
    let bytes = is_ours.then(|| key.raw_public_key().ok())??;
    Some(hex(&bytes))
}

fn context(
    method: SslMethod,
    identity: &Identity,
    certificate: &X509,
) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(method)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    context.set_certificate(certificate)?;
    context.set_private_key(identity.key())?;
    // A certificate there must be, and the key's owner must have signed the handshake. What else
    // OpenSSL looks for in one (issuers, dates) has nothing to say: the key is compared afterwards.
    context
        .set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, _| {
            true
        });
    // Whoever writes much has moved or lengthened his buffer by the time the other side takes more;
    // without this OpenSSL calls that a mistake and breaks the line.
    context.set_mode(
        SslMode::AUTO_RETRY | SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(SslOptions::NO_TICKET);
    context.set_num_tickets(0)?;
    Ok(context.build())
}

/// The envelope that TLS wants the key in.
fn certificate(identity: &Identity) -> Result<X509, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "windlass")?;
    let name = name.build();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?; // X.509 v3
    let serial = BigNum::from_u32(1)?.to_asn1_integer()?;
    certificate.set_serial_number(&serial)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    let from = Asn1Time::from_unix(0)?;
    let until = Asn1Time::from_str("99991231235959Z")?; // "no end", RFC 5280 §4.1.2.5
    certificate.set_not_before(&from)?;
    certificate.set_not_after(&until)?;
    certificate.set_pubkey(identity.key())?;
    certificate.sign(identity.key(), MessageDigest::null())?; // Ed25519 has its own
    Ok(certificate.build())
}

/// Of a machine's addresses the kernel may choose another one.
async fn connect(at: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from.filter(|from| from.is_ipv4() == at.is_ipv4()) {
        // An address that has just gone is none to call from; the other node may answer all the same.
        let _ = socket.bind(SocketAddr::new(from, 0));
    }
    socket.connect(at).await
}

/// Has the kernel find out when the other side is gone without a word.
fn attend(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEP_IDLE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEP_EVERY_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEP_COUNT)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNHEARD_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn identity() -> (Identity, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        (Identity::open(dir.path()).expect("a key"), dir)
    }

    /// A node that answers one call: the caller's key, or why there was none.
    async fn answer(lines: Lines) -> (SocketAddr, tokio::task::JoinHandle<Result<String, Fault>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a call");
            let (mut line, key) = lines.take(stream).await?;
            let mut word = [0; 5];
            line.read_exact(&mut word).await.map_err(Fault::transient)?;
            line.write_all(&word).await.map_err(Fault::transient)?;
            Ok(key)
        });
        (at, task)
    }

    #[tokio::test]
    async fn each_side_knows_the_others_key() {
        let ((a, _a), (b, _b)) = (identity(), identity());
        let lines = |identity| Lines::new(identity).expect("lines");
        let (at, heard) = answer(lines(&b)).await;
        let mut line = lines(&a).dial(at, None, &b.public()).await.expect("answers");
        line.write_all(b"hello").await.expect("says");
        let mut word = [0; 5];
        line.read_exact(&mut word).await.expect("hears");
        assert_eq!(&word, b"hello");
        assert_eq!(heard.await.expect("ends").expect("a key"), a.public());
        assert_eq!(line.ssl().version_str(), "TLSv1.3");
    }

    #[tokio::test]
    async fn much_is_said_to_who_listens_slowly() {
        let ((a, _a), (b, _b)) = (identity(), identity());
        let lines = |identity| Lines::new(identity).expect("lines");
        let called = lines(&b);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let told = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a call");
            let (mut line, _) = called.take(stream).await.expect("a line");
            tokio::time::sleep(Duration::from_millis(200)).await;
            let mut all = Vec::new();
            line.read_to_end(&mut all).await.expect("hears");
            all
        });
        let mut line = lines(&a).dial(at, None, &b.public()).await.expect("answers");
        let whole: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
        let (mut said, mut tries) = (0, 0);
        while said < whole.len() {
            // What is left, at another place and of another length with every try.
            said += std::future::poll_fn(|context| {
                tries += 1;
                let end = whole.len().min(said + 100_000 + tries % 7);
                let moved = whole[said..end].to_vec();
                Pin::new(&mut line).poll_write(context, &moved)
            })
            .await
            .expect("says");
        }
        line.shutdown().await.expect("ends");
        assert!(told.await.expect("ends") == whole, "all of it has come");
    }

    #[tokio::test]
    async fn nothing_is_said_to_another_key() {
        let ((a, _a), (b, _b), (c, _c)) = (identity(), identity(), identity());
        let lines = |identity| Lines::new(identity).expect("lines");
        let (at, heard) = answer(lines(&b)).await;
        let fault = lines(&a).dial(at, None, &c.public()).await.expect_err("is another");
        assert!(fault.message.contains("another key"), "{fault}");
        assert!(heard.await.expect("ends").is_err(), "hears no word");
        for nothing in ["", "zz"] {
            let (at, _heard) = answer(lines(&b)).await;
            assert!(lines(&a).dial(at, None, nothing).await.is_err(), "{nothing:?}");
        }
    }

    #[tokio::test]
    async fn who_shows_no_key_is_not_answered() {
        let (b, _b) = identity();
        let (at, heard) = answer(Lines::new(&b).expect("lines")).await;
        let mut bare = SslContextBuilder::new(SslMethod::tls_client()).expect("a context");
        bare.set_verify(SslVerifyMode::NONE);
        let ssl = Ssl::new(&bare.build()).expect("a session");
        let stream = TcpStream::connect(at).await.expect("connects");
        let mut line = SslStream::new(ssl, stream).expect("a line");
        let _ = Pin::new(&mut line).connect().await;
        // In TLS 1.3 the caller learns of the refusal with the first word.
        let _ = line.write_all(b"hello").await;
        assert!(heard.await.expect("ends").is_err());
    }

    #[tokio::test]
    async fn dates_do_not_count() {
        let ((a, _a), (b, _b)) = (identity(), identity());
        // Long over, as every certificate is by some clock.
        let mut old = X509::builder().expect("a builder");
        let from = Asn1Time::from_unix(0).expect("a time");
        let until = Asn1Time::from_unix(1).expect("a time");
        old.set_not_before(&from).expect("set");
        old.set_not_after(&until).expect("set");
        old.set_pubkey(b.key()).expect("set");
        old.sign(b.key(), MessageDigest::null()).expect("signs");
        let old = old.build();
        let lines = Lines {
            caller: context(SslMethod::tls_client(), &b, &old).expect("a context"),
            called: context(SslMethod::tls_server(), &b, &old).expect("a context"),
        };
        let ours = Lines::new(&a).expect("lines");
        let (at, _heard) = answer(lines.clone()).await;
        assert!(ours.dial(at, None, &b.public()).await.is_ok());
        let (at, heard) = answer(ours).await;
        let mut line = lines.dial(at, None, &a.public()).await.expect("answers");
        line.write_all(b"hello").await.expect("says");
        assert_eq!(heard.await.expect("ends").expect("a key"), b.public());
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        let (a, _a) = identity();
        let lines = Lines::new(&a).expect("lines");
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = silent.local_addr().expect("an address");
        let fault = lines.dial(at, None, &a.public()).await.expect_err("gives up");
        assert!(fault.message.contains("no answer within 5s"), "{fault}");
        drop(silent);
        let fault = lines.dial(at, None, &a.public()).await.expect_err("nobody is there");
        assert!(fault.message.contains("refused"), "{fault}");
    }
}
