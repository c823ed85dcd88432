use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;

fn texts(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// All frames in these bytes, which come in pieces of this length.
fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Broken> {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut piece)? {
            frames.push(frame);
        }
        assert!(piece.is_empty(), "what is left over is lost");
    }
    Ok(frames)
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    frames.iter().flat_map(|frame| encoder.encode(frame)).collect()
}

/// Data put together again: in how many pieces it comes is nobody's business.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        if let Frame::Data { stream, bytes, ends } = &frame
            && let Some(Frame::Data { stream: before, bytes: begun, ends: has_ended }) =
                all.last_mut()
            && before == stream
            && !*has_ended
        {
            *begun = [&begun[..], bytes].concat().into();
            *has_ended = *ends;
        } else {
            all.push(frame);
        }
    }
    all
}

/// A control frame by hand.
fn control(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[0x80, 3, 0, kind, flags], &length[1..], payload].concat()
}

/// Headers as spdystream packs them: compressed, each continuing what was before.
struct Packer(Compress);

impl Packer {
    fn new() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary::bytes()).expect("is taken");
        Self(compress)
    }

    fn pack(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(plain.len() + 1024);
        self.0.compress_vec(plain, &mut packed, FlushCompress::Sync).expect("packs");
        packed
    }

    /// SYN_STREAM.
    fn open(&mut self, stream: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = vec![0, 0, 0, u8::try_from(pairs.len()).expect("few")];
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend([0, 0, 0, u8::try_from(text.len()).expect("short")]);
            plain.extend(text.as_bytes());
        }
        let head = [0, 0, 0, stream, 0, 0, 0, 0, 0, 0];
        control(1, 0, &[&head, &self.pack(&plain)[..]].concat())
    }
}

#[test]
fn headers_are_read_that_continue_each_other() {
    let pairs = [("Streamtype", "error"), ("port", "80"), ("requestid", "0")];
    let mut packer = Packer::new();
    let (first, second) = (packer.open(1, &pairs), packer.open(3, &pairs));
    assert!(second.len() < first.len(), "they do");
    let open = |stream| {
        let headers = texts(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]);
        Frame::Open { stream, headers, ends: false }
    };
    for piece in [1, 7, 1000] {
        let read = decode(&[&first[..], &second].concat(), piece);
        assert_eq!(read, Ok(vec![open(1), open(3)]), "in pieces of {piece}");
    }
}

/// The other way round: what is written here is zlib's, read by zlib.
#[test]
fn headers_are_written_that_zlib_reads() {
    let mut encoder = Encoder::new();
    let mut inflate = Decompress::new(true);
    for round in 0..3 {
        let packed = encoder.headers(&texts(&[("port", "80")]));
        let mut plain = Vec::with_capacity(1024);
        let mut rest = &packed[..];
        if round == 0 {
            let wants = inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            assert_eq!(wants.expect_err("not yet").needs_dictionary(), Some(dictionary::ID));
            inflate.set_dictionary(&dictionary::bytes()).expect("is the one");
            rest = &rest[6..];
        }
        inflate.decompress_vec(rest, &mut plain, FlushDecompress::Sync).expect("reads");
        assert_eq!(plain, b"\0\0\0\x01\0\0\0\x04port\0\0\0\x0280");
    }
}

#[test]
fn frames_are_where_the_specification_has_them() {
    let data =
        |bytes: &[u8], ends| Frame::Data { stream: 5, bytes: Bytes::copy_from_slice(bytes), ends };
    let table: [(Vec<u8>, Vec<Frame>); 11] = [
        (b"\0\0\0\x05\0\0\0\x03abc".to_vec(), vec![data(b"abc", false)]),
        (b"\0\0\0\x05\x01\0\0\x03abc".to_vec(), vec![data(b"abc", true)]),
        (b"\0\0\0\x05\x01\0\0\0".to_vec(), vec![data(b"", true)]),
        // It says nothing.
        (b"\0\0\0\x05\0\0\0\0".to_vec(), vec![]),
        (control(3, 0, &[0, 0, 0, 5, 0, 0, 0, 8]), vec![Frame::Reset { stream: 5, status: 8 }]),
        (control(6, 0, &[0, 0, 0, 9]), vec![Frame::Ping(9)]),
        (control(7, 0, &[0, 0, 0, 5, 0, 0, 0, 1]), vec![Frame::Farewell { status: 1 }]),
        // SETTINGS, WINDOW_UPDATE, CREDENTIAL, and what nobody knows.
        (control(4, 1, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0]), vec![]),
        (control(9, 0, &[0, 0, 0, 5, 0, 0, 16, 0]), vec![]),
        (control(10, 0, &[]), vec![]),
        (control(99, 255, b"whatever"), vec![]),
    ];
    for (bytes, frames) in table {
        assert_eq!(decode(&bytes, 1000), Ok(frames.clone()), "{bytes:?}");
        assert_eq!(decode(&bytes, 1000).map(joined), decode(&bytes, 1).map(joined), "{bytes:?}");
    }
}

#[test]
fn what_makes_no_sense_ends_the_line() {
    let mut unknown = Packer::new().open(1, &[("port", "80")]);
    // The dictionary's name stands behind zlib's head.
    unknown[20] ^= 1;
    let bomb = Packer::new().pack(&vec![0; HEADERS_BYTES_MAX + 1]);
    let bomb = control(8, 0, &[&[0, 0, 0, 1], &bomb[..]].concat());
    assert!(bomb.len() < 200, "a small one: {}", bomb.len());
    let lie = Packer::new().pack(b"\xff\xff\xff\xff\xff\xff\xff\xff");
    let lie = control(8, 0, &[&[0, 0, 0, 1], &lie[..]].concat());
    let table: [(Vec<u8>, Broken); 8] = [
        (b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01".to_vec(), Broken::Version(2)),
        (b"\x80\x03\0\x01\0\xff\xff\xff".to_vec(), Broken::Long(0xff_ffff)),
        (control(6, 0, &[0, 0, 0]), Broken::Short(6)),
        (control(1, 0, &[0, 0, 0, 1, 0, 0]), Broken::Short(1)),
        (b"\0\0\0\0\0\0\0\x01x".to_vec(), Broken::Stream(0)),
        (unknown, Broken::Headers("they are not zlib's, or for another dictionary")),
        (bomb, Broken::Headers("they are too long")),
        (lie, Broken::Headers("they are no pairs of texts")),
    ];
    for (bytes, why) in table {
        assert_eq!(decode(&bytes, 1000), Err(why), "{bytes:?}");
    }
}

#[test]
fn a_frame_of_any_length_is_given_out_as_it_comes() {
    let mut decoder = Decoder::new();
    let mut head = Bytes::from_static(b"\0\0\0\x01\x01\xff\xff\xff");
    assert_eq!(decoder.decode(&mut head), Ok(None));
    let mut left = DATA_BYTES_MAX;
    while left > 0 {
        let mut piece = Bytes::from(vec![7; left.min(100_000)]);
        left -= piece.len();
        let (length, ends) = (piece.len(), left == 0);
        let frame = decoder.decode(&mut piece).expect("makes sense").expect("a piece");
        assert_eq!(frame, Frame::Data { stream: 1, bytes: vec![7; length].into(), ends });
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = || 1..u32::MAX / 2;
    let text = || "[a-z0-9-]{0,40}";
    let headers = prop::collection::btree_map(text(), ".{0,40}", 0..6);
    prop_oneof![
        (stream(), headers, any::<bool>()).prop_map(|(stream, headers, ends)| Frame::Open {
            stream,
            headers,
            ends
        }),
        (stream(), any::<bool>()).prop_map(|(stream, ends)| Frame::Reply { stream, ends }),
        (stream(), prop::collection::vec(any::<u8>(), 1..300), any::<bool>())
            .prop_map(|(stream, bytes, ends)| Frame::Data { stream, bytes: bytes.into(), ends }),
        (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        any::<u32>().prop_map(Frame::Ping),
        any::<u32>().prop_map(|status| Frame::Farewell { status }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        frames in prop::collection::vec(any_frame(), 0..12),
        piece in 1..500_usize,
    ) {
        let read = decode(&encode(&frames), piece).expect("makes sense");
        prop_assert_eq!(joined(read), joined(frames));
    }

    /// Neither noise nor a damaged line brings the reader down, nor makes it hold much.
    #[test]
    fn no_input_brings_it_down(
        frames in prop::collection::vec(any_frame(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = encode(&frames);
        bytes.extend(noise);
        for (place, byte) in damage {
            if let Some(at) = (!bytes.is_empty()).then(|| place.index(bytes.len())) {
                bytes[at] = byte;
            }
        }
        let mut decoder = Decoder::new();
        let mut rest = Bytes::from(bytes);
        while let Ok(Some(_)) = decoder.decode(&mut rest) {}
        if let Part::Control { payload, .. } = &decoder.part {
            prop_assert!(payload.len() <= CONTROL_BYTES_MAX);
        }
    }
}
