//! The cards of a FITS header, and the data that a primary one announces.

pub const BLOCK_BYTES: usize = 2880;
pub const CARD_BYTES: usize = 80;
/// The value field of a card starts here: after the keyword and `= `.
pub const VALUE_AT: usize = 10;

pub type Card = [u8; CARD_BYTES];

/// Bytes of the primary header and of its data, both padded; `None` where there is no whole one.
pub fn primary_extent(file: &[u8]) -> Option<(usize, usize)> {
    let (cards, header_bytes) = read_cards(file).ok()?;
    let data_bytes = usize::try_from(data_bytes(&cards).ok()?).ok()?.checked_next_multiple_of(BLOCK_BYTES)?;
    (header_bytes.checked_add(data_bytes)? <= file.len()).then_some((header_bytes, data_bytes))
}

/// The cards before END, and the length of the header with its padding.
pub fn read_cards(file: &[u8]) -> Result<(Vec<Card>, usize), String> {
    let mut cards: Vec<Card> = Vec::new();
    for card in file.as_chunks::<CARD_BYTES>().0 {
        let offset = cards.len() * CARD_BYTES;
        if let Some(at) = card.iter().position(|byte| !(0x20..=0x7e).contains(byte)) {
            let byte = card[at];
            return Err(format!("card {} has the byte 0x{byte:02x} at offset {}", cards.len() + 1, offset + at));
        }
        if card.trim_ascii_end() == b"END" {
            let header_bytes = (offset + CARD_BYTES).next_multiple_of(BLOCK_BYTES);
            return match file.len() >= header_bytes {
                true => Ok((cards, header_bytes)),
                false => Err(format!("the header ends at {header_bytes} bytes, the file at {}", file.len())),
            };
        }
        cards.push(*card);
    }
    Err(format!("the header has no END card in its {} cards", cards.len()))
}

/// Where a card with this keyword is, if it is there.
pub fn find(cards: &[Card], keyword: &str) -> Result<Option<usize>, String> {
    let mut found = cards.iter().enumerate().filter(|(_, card)| keyword_of(card) == keyword.as_bytes());
    let first = found.next().map(|(at, _)| at);
    match (first, found.next()) {
        (Some(first), Some((second, _))) => Err(format!(
            "{keyword} is there twice, in card {} (offset {}) and card {} (offset {})",
            first + 1,
            first * CARD_BYTES,
            second + 1,
            second * CARD_BYTES,
        )),
        _ => Ok(first),
    }
}

pub fn keyword_of(card: &Card) -> &[u8] {
    card[..8].trim_ascii_end()
}

/// The value field without its comment.
pub fn value_of(card: &Card) -> &[u8] {
    if &card[8..VALUE_AT] != b"= " {
        return b"";
    }
    let field = &card[VALUE_AT..];
    let end = match field.trim_ascii_start().first() {
        Some(b'\'') => {
            let open = field.iter().position(|byte| *byte == b'\'').unwrap_or_default() + 1;
            field[open..].iter().position(|byte| *byte == b'\'').map(|close| open + close + 1)
        }
        _ => field.iter().position(|byte| *byte == b'/'),
    };
    field[..end.unwrap_or(field.len())].trim_ascii()
}

/// Bytes of the primary data unit before padding.
pub fn data_bytes(cards: &[Card]) -> Result<u64, String> {
    if cards.first().is_none_or(|card| keyword_of(card) != b"SIMPLE" || value_of(card) != b"T") {
        return Err("card 1 (offset 0) is not SIMPLE = T".into());
    }
    let bits = integer_at(cards, 1, "BITPIX")?;
    if ![8, 16, 32, 64, -32, -64].contains(&bits) {
        return Err(format!("card 2 (offset 80) says BITPIX = {bits}; it is 8, 16, 32, 64, -32 or -64"));
    }
    let axes = integer_at(cards, 2, "NAXIS")?;
    if !(0..=999).contains(&axes) {
        return Err(format!("card 3 (offset 160) says NAXIS = {axes}; it is 0 to 999"));
    }
    let mut lengths = Vec::new();
    for axis in 1..=axes as usize {
        lengths.push(integer_at(cards, 2 + axis, &format!("NAXIS{axis}"))?);
    }
    let groups = lengths.first() == Some(&0)
        && find(cards, "GROUPS")?.is_some_and(|at| value_of(&cards[at]) == b"T" && lengths.len() > 1);
    let (counted, extra, repeats) = match groups {
        true => (&lengths[1..], optional_integer(cards, "PCOUNT", 0)?, optional_integer(cards, "GCOUNT", 1)?),
        false => (&lengths[..], 0, 1),
    };
    let elements = if counted.is_empty() { Some(0) } else { product(counted) };
    elements
        .and_then(|elements| elements.checked_add(u64::try_from(extra).ok()?))
        .and_then(|elements| elements.checked_mul(u64::try_from(repeats).ok()?))
        .and_then(|elements| elements.checked_mul(bits.unsigned_abs() / 8))
        .filter(|bytes| *bytes <= u64::MAX / 2)
        .ok_or_else(|| format!("axes of {lengths:?} elements make no data size"))
}

fn product(lengths: &[i64]) -> Option<u64> {
    lengths.iter().try_fold(1u64, |product, length| product.checked_mul(u64::try_from(*length).ok()?))
}

fn integer_at(cards: &[Card], at: usize, keyword: &str) -> Result<i64, String> {
    let wrong = |what: String| format!("card {} (offset {}) {what}", at + 1, at * CARD_BYTES);
    let card = cards.get(at).ok_or_else(|| wrong(format!("is not there; it should be {keyword}")))?;
    if keyword_of(card) != keyword.as_bytes() {
        return Err(wrong(format!("is {}, not {keyword}", String::from_utf8_lossy(keyword_of(card)))));
    }
    let value = String::from_utf8_lossy(value_of(card));
    value.parse().map_err(|_| wrong(format!("says {keyword} = {value}, which is no integer")))
}

fn optional_integer(cards: &[Card], keyword: &str, default: i64) -> Result<i64, String> {
    find(cards, keyword)?.map_or(Ok(default), |at| integer_at(cards, at, keyword))
}
