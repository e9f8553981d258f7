//! Base64 as RFC 4648 section 4 has it: padded, no blanks, no stray bits.

/// Appends what `text` stands for; `None` if it is not base64 (some bytes may have been appended).
pub(super) fn decode(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let mut groups = text.chunks(4).peekable();
    while let Some(group) = groups.next() {
        let &[a, b, c, d] = group else { return None };
        let is_last = groups.peek().is_none();
        let (a, b) = (sextet(a)?, sextet(b)?);

        bytes.push(a << 2 | b >> 4);
        match (c, d) {
            (b'=', b'=') if is_last && b.trailing_zeros() >= 4 => {}
            (c, b'=') if is_last => {
                let c = sextet(c).filter(|c| c.trailing_zeros() >= 2)?;
                bytes.push(b << 4 | c >> 2);
            }
            (c, d) => {
                let (c, d) = (sextet(c)?, sextet(d)?);
                bytes.push(b << 4 | c >> 2);
                bytes.push(c << 6 | d);
            }
        }
    }
    Some(())
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    fn check(text: &str, expected: Option<&[u8]>) {
        let mut bytes = Vec::new();
        let decoded = decode(text.as_bytes(), &mut bytes).map(|()| bytes.as_slice());
        assert_eq!(decoded, expected, "{text}");
    }

    #[test]
    fn base64_follows_the_rfc() {
        check("", Some(b""));
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("Zm9vYmFy", Some(b"foobar"));
        check("+/8=", Some(&[0xfb, 0xff]));
        check("////", Some(&[0xff, 0xff, 0xff]));
    }

    #[test]
    fn base64_refuses_what_another_decoder_would_guess_at() {
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Z m8", "Zm8-", "====", "Zm9v\n"] {
            check(text, None);
        }
    }
}
