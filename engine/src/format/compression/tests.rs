//! What holds for every codec.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Two records: the example that `docs/FORMAT.md` works through in every codec.
pub(super) const RECORDS: [u8; 28] = [
    0x1A, 0x00, 0x00, 0x00, 0x04, 0x6B, 0x31, 0x0A, 0x68, 0x65, 0x6C, 0x6C, 0x6F, 0x00, 0x1A, 0x00, 0x0A, 0x02, 0x01,
    0x00, 0x04, 0x02, 0x68, 0x02, 0x78, 0x02, 0x6E, 0x01,
];

const LIMIT: u64 = 1 << 24;

/// The codecs of this build.
fn codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| match codec {
        Codec::None | Codec::Lz4 => true,
        Codec::Gzip => cfg!(feature = "gzip"),
        Codec::Snappy => cfg!(feature = "snappy"),
        Codec::Zstd => cfg!(feature = "zstd"),
    })
}

fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    compress(Compression::with_default_level(codec), input, &mut output).unwrap();
    output
}

/// Decodes at once and in small reads, which must agree.
pub(super) fn decoded(codec: Codec, input: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut output = b"before".to_vec();
    let at_once = decompress(codec, input, LIMIT, &mut output);
    assert_eq!(output[..6], *b"before");
    let at_once = at_once.map(|()| output.split_off(6));
    assert_eq!(output.len(), 6, "left by an error");
    assert_eq!(read_all(codec, input, LIMIT, 1000), at_once);
    at_once
}

fn read_all(codec: Codec, input: &[u8], limit: u64, step_bytes: usize) -> Result<Vec<u8>, FormatError> {
    let mut decompressor = Decompressor::new(codec, input, limit)?;
    let mut output = Vec::new();
    let mut step = vec![0; step_bytes];
    loop {
        let result = decompressor.read(&mut step);
        if !matches!(result, Ok(1..)) {
            assert_eq!(decompressor.read(&mut step), result, "an outcome stays");
        }
        match result? {
            0 => return Ok(output),
            count => output.extend_from_slice(&step[..count]),
        }
    }
}

/// Bytes that compress to about half.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + u8::try_from(state >> 28).unwrap()
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn codec_ids_and_names_are_kafkas() {
    let names = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (id, name) in (0..).zip(names) {
        let codec = Codec::from_id(id).unwrap();
        assert_eq!((codec.id(), codec.name()), (id, name));
        assert_eq!(Compression::with_default_level(codec).codec(), codec);
    }
    for id in 5..=u8::MAX {
        assert!(matches!(Codec::from_id(id), Err(FormatError::Invalid { .. })), "{id}");
    }
}

#[test]
fn level_outside_kafkas_bounds_is_refused() {
    let accepted = |codec, level| Compression::with_level(codec, level).is_ok();
    for (codec, least, most) in [(Codec::Gzip, 1, 9), (Codec::Lz4, 1, 17), (Codec::Zstd, -131_072, 22)] {
        assert!(accepted(codec, least) && accepted(codec, most), "{codec:?}");
        assert!(!accepted(codec, least - 1) && !accepted(codec, most + 1), "{codec:?}");
        assert!(!accepted(codec, i32::MAX) && !accepted(codec, i32::MIN), "{codec:?}");
    }
    assert_eq!(Compression::with_level(Codec::Gzip, -1), Ok(Compression::Gzip { level: None }));
    assert!(!accepted(Codec::None, 1) && !accepted(Codec::Snappy, 1));
    for unchecked in
        [Compression::Gzip { level: Some(0) }, Compression::Lz4 { level: 18 }, Compression::Zstd { level: 23 }]
    {
        let mut output = Vec::new();
        assert!(matches!(compress(unchecked, b"abc", &mut output), Err(FormatError::Invalid { .. })));
        assert!(output.is_empty());
    }
}

#[test]
fn every_level_round_trips() {
    let input = text(5000);
    let gzip = (1..=9).map(|level| (Codec::Gzip, level));
    let lz4 = (1..=17).map(|level| (Codec::Lz4, level));
    let zstd = [-131_072, -5, -1, 0, 1, 3, 9, 19, 22].map(|level| (Codec::Zstd, level));
    for (codec, level) in gzip.chain(lz4).chain(zstd).filter(|(codec, _)| codecs().any(|built| built == *codec)) {
        let mut output = Vec::new();
        compress(Compression::with_level(codec, level).unwrap(), &input, &mut output).unwrap();
        assert_eq!(decoded(codec, &output).unwrap(), input, "{codec:?} {level}");
    }
}

#[test]
fn sizes_around_block_bounds_round_trip() {
    for len in [0, 1, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 1 << 20] {
        for input in [text(len), vec![0; len]] {
            for codec in codecs() {
                let stored = compressed(codec, &input);
                assert!(decoded(codec, &stored).unwrap() == input, "{codec:?} {len}");
            }
        }
    }
}

#[test]
fn compress_appends_behind_what_is_there() {
    for codec in codecs() {
        let mut output = b"before".to_vec();
        compress(Compression::with_default_level(codec), &RECORDS, &mut output).unwrap();
        assert_eq!(output, [b"before".as_slice(), &compressed(codec, &RECORDS)].concat());
    }
}

#[test]
fn nothing_is_no_stream() {
    for codec in codecs() {
        assert_eq!(decoded(codec, &[]).is_ok(), codec == Codec::None, "{codec:?}");
    }
}

#[test]
fn limit_reached_passes_and_exceeded_is_refused() {
    for len in [1, 1000, 65_536, 65_537, 200_000] {
        let input = text(len);
        let len = u64::try_from(len).unwrap();
        for codec in codecs() {
            let stored = compressed(codec, &input);
            let mut output = Vec::new();
            decompress(codec, &stored, len, &mut output).unwrap();
            assert!(output == input && read_all(codec, &stored, len, 777).unwrap() == input);

            let exceeded = Err(FormatError::LimitExceeded { what: "decompressed data", limit: len - 1 });
            let mut output = b"before".to_vec();
            assert_eq!(decompress(codec, &stored, len - 1, &mut output), exceeded, "{codec:?}");
            assert_eq!(output, b"before");
            assert_eq!(read_all(codec, &stored, len - 1, 777).map(drop), exceeded, "{codec:?}");
        }
    }
}

#[test]
fn limit_of_zero_admits_nothing_but_an_empty_stream() {
    for codec in codecs() {
        let mut output = Vec::new();
        decompress(codec, &compressed(codec, &[]), 0, &mut output).unwrap();
        assert!(decompress(codec, &compressed(codec, &[1]), 0, &mut output).is_err());
        assert_eq!(output.capacity(), 0);
    }
}

#[test]
fn bomb_stops_at_the_limit_without_more_memory() {
    for codec in codecs() {
        let bomb = compressed(codec, &[0; 1 << 23]);
        for limit in [1000, 100_000, 3_000_000] {
            let exceeded = Err(FormatError::LimitExceeded { what: "decompressed data", limit });
            let mut output = Vec::new();
            assert_eq!(decompress(codec, &bomb, limit, &mut output), exceeded, "{codec:?}");
            assert!(u64::try_from(output.capacity()).unwrap() <= limit, "{codec:?}: {}", output.capacity());
            assert_eq!(read_all(codec, &bomb, limit, 4096).map(drop), exceeded, "{codec:?}");
        }
    }
}

#[test]
fn stream_cut_anywhere_is_refused() {
    let input = text(300);
    for codec in codecs().filter(|codec| *codec != Codec::None) {
        let stored = compressed(codec, &input);
        for len in 0..stored.len() {
            let result = decoded(codec, &stored[..len]);
            // A header alone is a whole snappy stream.
            let whole = codec == Codec::Snappy && len == 16;
            assert_eq!(result.is_ok(), whole, "{codec:?} cut to {len}: {result:?}");
        }
    }
}

#[test]
fn stream_with_any_bit_flipped_is_handled() {
    for codec in codecs() {
        for input in [text(100), vec![0; 100]] {
            let stored = compressed(codec, &input);
            for bit in 0..stored.len() * 8 {
                let mut bad = stored.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let result = decoded(codec, &bad);
                assert!(codec != Codec::None || result == Ok(bad), "bit {bit}");
            }
        }
    }
}

#[cfg(not(all(feature = "gzip", feature = "snappy", feature = "zstd")))]
#[test]
fn codec_left_out_is_unavailable() {
    for codec in Codec::ALL.into_iter().filter(|codec| codecs().all(|built| built != *codec)) {
        let unavailable = FormatError::CodecUnavailable { codec: codec.name() };
        let mut output = Vec::new();
        let compression = Compression::with_default_level(codec);
        assert_eq!(compress(compression, &RECORDS, &mut output), Err(unavailable.clone()));
        assert_eq!(decompress(codec, &RECORDS, LIMIT, &mut output), Err(unavailable.clone()));
        assert_eq!(Decompressor::new(codec, &RECORDS, LIMIT).map(drop), Err(unavailable));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_round_trip(
        noise in vec(any::<u8>(), 0..2000),
        repeats in 1usize..100,
        step_bytes in 1usize..100_000,
    ) {
        let input = noise.repeat(repeats);
        for codec in codecs() {
            let stored = compressed(codec, &input);
            let mut output = Vec::new();
            decompress(codec, &stored, LIMIT, &mut output).unwrap();
            prop_assert!(output == input);
            prop_assert!(read_all(codec, &stored, LIMIT, step_bytes).unwrap() == input);
        }
    }

    #[test]
    fn any_bytes_as_a_stream_are_handled(noise in vec(any::<u8>(), 0..500)) {
        for codec in codecs() {
            let start = match codec {
                Codec::Gzip => &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF][..],
                Codec::Snappy => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0",
                Codec::Lz4 => &[0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82],
                Codec::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
                Codec::None => &[],
            };
            for input in [noise.clone(), [start, &noise].concat()] {
                // The outcome is free; that both ways agree on it is checked inside.
                drop(decoded(codec, &input));
            }
        }
    }
}
