//! How many items go to a worker at once: guided self-scheduling (Polychronopoulos and Kuck 1987).

use std::ops::Range;

/// A chunk takes one worker's share of what is left, divided by this number.
const SHARE: usize = 4;

/// Cuts `items` items into chunks for `workers` workers: large ones first, single items at the end.
///
/// Every chunk is a fixed share of what is left. The time lost to passing chunks around stays small, and the workers
/// still finish within about one item of each other.
pub fn guided(items: usize, workers: usize) -> impl Iterator<Item = Range<usize>> {
    let slices = workers.max(1).saturating_mul(SHARE);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == items {
            return None;
        }
        let end = start + (items - start).div_ceil(slices).max(1);
        let chunk = start..end;
        start = end;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::guided;

    #[test]
    fn chunks_cover_every_item_once_and_shrink() {
        for (items, workers) in [(0, 3), (1, 1), (5, 3), (1000, 4), (1001, 0), (10_000, 64)] {
            let chunks: Vec<_> = guided(items, workers).collect();
            let flat: Vec<_> = chunks.iter().cloned().flatten().collect();
            assert_eq!(flat, (0..items).collect::<Vec<_>>());
            assert!(chunks.windows(2).all(|pair| pair[0].len() >= pair[1].len()));
            assert!(chunks.last().is_none_or(|chunk| chunk.len() == 1));
        }
    }

    #[test]
    fn a_large_map_needs_few_chunks() {
        assert!(guided(1_000_000, 2).count() < 120);
    }
}
