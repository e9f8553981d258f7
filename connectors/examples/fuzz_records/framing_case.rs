//! The framing of registries: what is split is what was joined, and anything else is whole or refused.

use bessemer_connectors::formats::protobuf::split_path;
use bessemer_connectors::schema_registry::SchemaId;
use rand::Rng;
use rand::rngs::StdRng;

use crate::bytes::{mutate, to_hex};

/// Splits random records.
pub(crate) fn check(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Result<(u64, u64), String> {
    let (mut records, mut rejected) = (0, 0);
    for _ in 0..64 {
        let id: u32 = rng.random();
        let path: Vec<u8> = match rng.random_range(0..3) {
            0 => vec![0],
            // Numbers of one byte are twice what they say.
            depth => std::iter::once(depth * 2).chain((0..depth).map(|_| rng.random_range(0..64) * 2)).collect(),
        };
        let data: Vec<u8> = (0..rng.random_range(0..20)).map(|_| rng.random()).collect();
        let framed = [&[0], &id.to_be_bytes()[..], &path, &data].concat();
        let split = SchemaId::split(&framed).and_then(|(found, rest)| Some((found, split_path(rest)?)));
        if split != Some((SchemaId(id), (&path, &data))) {
            return Err(format!("{} is split into {split:?}", to_hex(&framed)));
        }

        let mut record = match corpus.get(rng.random_range(0..corpus.len() * 4 + 4)) {
            Some(record) => record.clone(),
            None => framed,
        };
        mutate(rng, &mut record);
        records += 1;
        let Some((id, rest)) = SchemaId::split(&record) else {
            if record.len() >= 5 && record.first() == Some(&0) {
                return Err(format!("{} is not split", to_hex(&record)));
            }
            rejected += 1;
            continue;
        };
        let joined = [&[0], &id.0.to_be_bytes()[..], rest].concat();
        let path = split_path(rest);
        if joined != record || path.is_some_and(|(path, data)| [path, data].concat() != rest) {
            return Err(format!("{} is split into {id:?}, {path:?}", to_hex(&record)));
        }
        rejected += u64::from(path.is_none());
    }
    Ok((records, rejected))
}
