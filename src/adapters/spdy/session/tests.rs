use tokio::io::{DuplexStream, duplex};

use super::*;

pub(in super::super) fn texts(kind: &str) -> Headers {
    [("kind".to_owned(), kind.to_owned())].into()
}

/// Two ends of a line, the second of which is driven by a task of its own.
pub(in super::super) struct Ends {
    pub(in super::super) opener: Opener,
    pub(in super::super) openings: mpsc::Receiver<Opened>,
    _tasks: tokio::task::JoinSet<()>,
}

pub(in super::super) fn ends(buffer: usize) -> Ends {
    let (one, other) = duplex(buffer);
    let (client, opener, _) = Session::new(Side::Client);
    let (server, _, openings) = Session::new(Side::Server);
    let mut tasks = tokio::task::JoinSet::new();
    let run = |session: Session, line: DuplexStream| async move {
        let (input, output) = bytes(line);
        session.run(input, output, std::future::pending()).await;
    };
    tasks.spawn(run(client, one));
    tasks.spawn(run(server, other));
    Ends { opener, openings, _tasks: tasks }
}

pub(in super::super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

pub(in super::super) async fn all(ear: &mut Ear) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some((bytes, _)) = ear.next().await.expect("goes on") {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn each_side_goes_on_when_the_other_has_ended() {
    let mut ends = ends(64);
    let talk = async {
        let mut ours = ends.opener.open(texts("a"), false).await.expect("opens");
        let Opened { headers, stream: mut theirs } = ends.openings.recv().await.expect("comes");
        assert_eq!(headers, texts("a"));
        theirs.accept();
        ours.mouth.say("question".into()).await.expect("says");
        ours.mouth.end().await.expect("ends");
        assert_eq!(all(&mut theirs.ear).await, b"question");
        theirs.mouth.say("ans".into()).await.expect("says");
        theirs.mouth.say("wer".into()).await.expect("says");
        theirs.mouth.end().await.expect("ends");
        assert_eq!(all(&mut ours.ear).await, b"answer");
    };
    within(talk).await;
}

#[tokio::test]
async fn what_is_dropped_is_reset_and_what_is_reset_has_gone() {
    let mut ends = ends(64);
    let talk = async {
        let mut ours = ends.opener.open(texts("a"), false).await.expect("opens");
        drop(ends.openings.recv().await.expect("comes"));
        (&mut ours.gone).await.expect_err("is told by a drop");
        assert!(ours.ear.next().await.is_err());
        // And the other way round.
        let ours = ends.opener.open(texts("b"), false).await.expect("opens");
        let mut theirs = ends.openings.recv().await.expect("comes").stream;
        drop(ours);
        (&mut theirs.gone).await.expect_err("is told by a drop");
    };
    within(talk).await;
}

#[tokio::test]
async fn a_reset_comes_behind_what_was_said() {
    let mut ends = ends(64);
    let talk = async {
        let mut ours = ends.opener.open(texts("a"), false).await.expect("opens");
        let mut theirs = ends.openings.recv().await.expect("comes").stream;
        theirs.mouth.say("last words".into()).await.expect("says");
        theirs.mouth.reset().await.expect("resets");
        let (words, _) = ours.ear.next().await.expect("comes").expect("words");
        assert_eq!(words, "last words");
        assert!(ours.ear.next().await.is_err());
    };
    within(talk).await;
}

#[tokio::test]
async fn the_line_is_read_no_further_than_is_held() {
    let mut ends = ends(READ_BYTES);
    let ours = ends.opener.open(texts("a"), false).await.expect("opens");
    let mut theirs = ends.openings.recv().await.expect("comes").stream;
    let piece = Bytes::from(vec![1; READ_BYTES]);
    let mut said = 0;
    // Nobody takes it, so at some point nothing more is taken here.
    while let Ok(done) =
        tokio::time::timeout(Duration::from_millis(300), ours.mouth.say(piece.clone())).await
    {
        done.expect("says");
        said += piece.len();
        assert!(said < 2 * HELD_BYTES_MAX, "it is held without bound");
    }
    assert!(said >= HELD_BYTES_MAX, "{said}");
    // Beside that there is what waits to be said, and what is on the line.
    let held = READ_BYTES * (WORDS_MAX + 4);
    assert!(said <= HELD_BYTES_MAX + held, "{said}");
    // Who hears no more holds nobody up.
    theirs.ear.close();
    for _ in 0..100 {
        within(ours.mouth.say(piece.clone())).await.expect("says");
    }
}

#[tokio::test]
async fn there_are_not_more_streams_than_there_may_be() {
    let mut ends = ends(4096);
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        let ours = within(ends.opener.open(texts("a"), false)).await.expect("opens");
        held.push((ours, within(ends.openings.recv()).await.expect("comes")));
    }
    assert!(ends.opener.open(texts("a"), false).await.is_err());
    held.pop();
    // Both ends have heard of it as soon as the next is there.
    let opened = async {
        loop {
            if let Ok(stream) = ends.opener.open(texts("a"), false).await {
                break stream;
            }
        }
    };
    within(opened).await;
}

/// Frames by hand for a server's end: what it says, and the streams that were begun.
async fn by_hand(frames: &[Frame], last: &[u8]) -> (Vec<Frame>, Vec<Opened>) {
    let (mut line, theirs) = duplex(1 << 16);
    let (session, _, mut openings) = Session::new(Side::Server);
    let (input, output) = bytes(theirs);
    let mut encoder = Encoder::new();
    for frame in frames {
        line.write_all(&encoder.encode(frame)).await.expect("writes");
    }
    line.write_all(last).await.expect("writes");
    let mut opened = Vec::new();
    let takes = async {
        while let Some(next) = openings.recv().await {
            opened.push(next);
        }
    };
    let runs = session.run(input, output, std::future::pending());
    within(futures_util::future::join(runs, takes)).await;
    let mut said = Vec::new();
    line.read_to_end(&mut said).await.expect("reads");
    let (mut decoder, mut said) = (Decoder::new(), Bytes::from(said));
    let said = std::iter::from_fn(|| decoder.decode(&mut said).expect("makes sense")).collect();
    (said, opened)
}

#[tokio::test]
async fn pings_are_sent_back_and_a_good_bye_is_answered() {
    let frames = [Frame::Ping(7), Frame::Ping(2), Frame::Farewell { status: 0 }];
    let (said, _) = by_hand(&frames, b"").await;
    assert_eq!(said, [Frame::Ping(7), Frame::Farewell { status: GONE_WELL }]);
}

#[tokio::test]
async fn a_line_that_makes_no_sense_is_ended_with_the_streams_on_it() {
    let open = |stream| Frame::Open { stream, headers: texts("a"), ends: false };
    // The second has a number of ours.
    let (said, mut opened) = by_hand(&[open(1), open(2)], b"\x80\x07nonsense").await;
    let refused = Frame::Reset { stream: 2, status: REFUSED_STREAM };
    assert_eq!(said, [refused, Frame::Farewell { status: PROTOCOL_ERROR }]);
    let mut stream = opened.pop().expect("was opened").stream;
    assert!(within(stream.ear.next()).await.is_err());
}

#[tokio::test]
async fn what_was_reset_counts_until_it_is_dropped_here() {
    let ids = || (1..).step_by(2).take(STREAMS_MAX + 10);
    let open = |stream| Frame::Open { stream, headers: texts("a"), ends: false };
    let frames = ids().flat_map(|stream| [open(stream), Frame::Reset { stream, status: CANCEL }]);
    // A good-bye ends the line all the same: nothing was left by who says it.
    let frames: Vec<Frame> = frames.chain([Frame::Farewell { status: 0 }]).collect();
    let (said, opened) = by_hand(&frames, b"").await;
    assert_eq!(opened.len(), STREAMS_MAX);
    let refused = ids().skip(STREAMS_MAX);
    let refused = refused.map(|stream| Frame::Reset { stream, status: REFUSED_STREAM });
    let said_well: Vec<Frame> = refused.chain([Frame::Farewell { status: GONE_WELL }]).collect();
    assert_eq!(said, said_well);
}

#[tokio::test]
async fn a_piece_that_waits_keeps_nothing_else_in_memory() {
    let message = Bytes::from(vec![7; 100_000]);
    let frames = [
        Frame::Open { stream: 1, headers: texts("a"), ends: false },
        Frame::Data { stream: 1, bytes: message.slice(..1), ends: false },
    ];
    let input = futures_util::stream::iter(frames.map(Ok)).chain(futures_util::stream::pending());
    let output = futures_util::sink::drain().sink_map_err(io::Error::other);
    let (session, _, mut openings) = Session::new(Side::Server);
    let heard = async {
        let mut stream = openings.recv().await.expect("comes").stream;
        let (piece, _place) = stream.ear.next().await.expect("goes on").expect("a piece");
        assert_eq!(&piece[..], [7]);
        assert!(message.is_unique(), "100 kB are kept for a byte");
    };
    within(session.run(Box::pin(input), Box::pin(output), heard)).await;
}
