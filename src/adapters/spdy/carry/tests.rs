use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::session::Opened;
use super::super::session::tests::{Ends, all, ends, texts, within};
use super::*;

/// A stream that is carried: its other end, the connection's other end, and the carrying.
struct Carried {
    _line: Ends,
    stream: Stream,
    connection: TcpStream,
    carries: JoinHandle<()>,
}

impl Carried {
    async fn begin() -> Self {
        let mut line = ends(1 << 16);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = listener.local_addr().expect("an address");
        let ours = TcpStream::connect(place).await.expect("connects");
        let (connection, _) = listener.accept().await.expect("comes");
        let stream = line.opener.open(texts("a"), false).await.expect("opens");
        let Opened { stream: mut theirs, .. } = line.openings.recv().await.expect("comes");
        let carries = tokio::spawn(async move {
            carry(ours, &mut theirs, None, Duration::from_secs(20)).await;
        });
        Self { _line: line, stream, connection, carries }
    }

    async fn says(&mut self, words: &'static [u8]) {
        self.connection.write_all(words).await.expect("says");
        assert_eq!(self.stream.ear.next().await.expect("goes on").expect("words").0, words);
    }

    async fn is_told(&mut self, words: &'static [u8]) {
        self.stream.mouth.say(words.into()).await.expect("says");
        let mut heard = vec![0; words.len()];
        self.connection.read_exact(&mut heard).await.expect("hears");
        assert_eq!(heard, words);
    }
}

#[tokio::test]
async fn it_ends_when_both_have_ended_and_not_before() {
    let talk = async {
        // The stream's end first.
        let mut carried = Carried::begin().await;
        carried.stream.mouth.end().await.expect("ends");
        assert_eq!(carried.connection.read(&mut [0]).await.expect("hears"), 0);
        carried.says(b"go on").await;
        assert!(!carried.carries.is_finished());
        carried.connection.shutdown().await.expect("ends");
        assert_eq!(all(&mut carried.stream.ear).await, b"");
        carried.carries.await.expect("ends");
        // The connection's end first.
        let mut carried = Carried::begin().await;
        carried.connection.shutdown().await.expect("ends");
        assert_eq!(all(&mut carried.stream.ear).await, b"");
        carried.is_told(b"go on").await;
        assert!(!carried.carries.is_finished());
        carried.stream.mouth.end().await.expect("ends");
        assert_eq!(carried.connection.read(&mut [0]).await.expect("hears"), 0);
        carried.carries.await.expect("ends");
    };
    within(talk).await;
}

#[tokio::test]
async fn it_ends_at_once_when_one_of_them_breaks() {
    let talk = async {
        let mut carried = Carried::begin().await;
        carried.is_told(b"words").await;
        // What was never read makes a reset of an end.
        carried.stream.mouth.say(b"unread".as_slice().into()).await.expect("says");
        while carried.connection.peek(&mut [0]).await.expect("hears") == 0 {}
        drop(carried.connection);
        (&mut carried.stream.gone).await.expect_err("is told by a drop");
        carried.carries.await.expect("ends");
        let mut carried = Carried::begin().await;
        carried.is_told(b"words").await;
        drop(carried.stream);
        assert_eq!(carried.connection.read(&mut [0]).await.expect("hears"), 0);
        carried.carries.await.expect("ends");
    };
    within(talk).await;
}
