//! Base64 as Go's `StdEncoding` reads it: padded, line breaks ignored.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Go does not look at the bits that a last, partly used character carries.
const GO: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The bytes of `text`, or nothing if it is not base64.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if text.contains(['\n', '\r']) {
        let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return GO.decode(joined).ok();
    }
    GO.decode(text).ok()
}

/// `bytes` as base64 on one line.
pub(super) fn encode(bytes: &[u8]) -> String {
    GO.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        let table: [(&str, Option<&[u8]>); 8] = [
            ("", Some(b"")),
            ("aGk=", Some(b"hi")),
            ("aG\nk=\n", Some(b"hi")),
            ("aGl=", Some(b"hi")), // trailing bits are not looked at
            ("aGk", None),
            ("aGk =", None),
            ("hunter2!", None),
            ("_-8=", None),
        ];
        for (text, bytes) in table {
            assert_eq!(decode(text).as_deref(), bytes, "{text:?}");
        }
        assert_eq!(encode(b"hi"), "aGk=");
    }
}
