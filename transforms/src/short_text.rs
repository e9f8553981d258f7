//! Texts in views. A view is 16 bytes: the length of a text in the lowest four, and then the text itself where it is short,
//! with zeros behind it, or else where it is to be found (Arrow columnar format, "Variable-size Binary View Layout").

/// What a view holds by itself.
pub(crate) const SHORT_BYTES: usize = 12;

/// The length of a text.
#[inline]
pub(crate) fn bytes(view: u128) -> usize {
    (view & u128::from(u32::MAX)) as usize
}

/// Whether all texts are in their views.
pub(crate) fn are_short(views: &[u128]) -> bool {
    views.iter().map(|view| bytes(*view)).max().unwrap_or(0) <= SHORT_BYTES
}
