//! Records of bytes: from the corpus, and broken at random.

use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

/// The records of a target's corpus: a file of hexadecimal digits, one record a line.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fuzz_records/corpus").join(format!("{target}.hex"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(from_hex).collect()
}

fn from_hex(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = line.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair.first()? << 4 | pair.get(1)?).ok()).collect()
}

/// As the corpus has them.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Changes a few bytes of a record.
pub(crate) fn mutate(rng: &mut StdRng, record: &mut Vec<u8>) {
    const ODD: [u8; 10] = [0, 1, 2, 0x7f, 0x80, 0xff, 0xfe, 8, 16, b'"'];
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=record.len());
        let byte = if rng.random_bool(0.5) { ODD[rng.random_range(0..ODD.len())] } else { rng.random() };
        match rng.random_range(0..7) {
            0 => record.insert(at, byte),
            1 if at < record.len() => record[at] = byte,
            2 if at < record.len() => record[at] ^= 1 << rng.random_range(0..8),
            3 if at < record.len() => drop(record.remove(at)),
            4 => record.truncate(at),
            5 => {
                let end = rng.random_range(at..=record.len());
                let copy = record[at..end].to_vec();
                record.splice(at..at, copy);
            }
            _ => {
                let end = rng.random_range(at..=record.len()).min(at + 5);
                record.drain(at..end);
            }
        }
    }
}
