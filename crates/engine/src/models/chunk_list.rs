//! A list of chunks: finished chunks leave it wherever they are, and the others stay.

use loom::sync::Arc;
use loom::thread;

use crate::channel::chunk_list::link::{Link, LinkWord};

const INC: u32 = 1;
const CHUNKS: usize = 4;

struct ChunkList {
    head: LinkWord,
    next: [LinkWord; CHUNKS],
}

fn link(chunk: usize) -> Link {
    Link::new(chunk as u32 + 1, INC)
}

fn chunk(link: Link) -> Option<usize> {
    (link.number() as usize).checked_sub(1)
}

impl ChunkList {
    fn new() -> Arc<ChunkList> {
        let next = |chunk| match chunk + 1 {
            CHUNKS => Link::end_of(INC),
            next => link(next),
        };
        Arc::new(ChunkList {
            head: LinkWord::new(link(0)),
            next: std::array::from_fn(|chunk| LinkWord::new(next(chunk))),
        })
    }

    /// The rule of `channel/chunk_list/retire.rs`. Dies after `steps` steps.
    fn retire(&self, gone: usize, steps: u32) {
        self.freeze(gone);
        if steps == 1 {
            return;
        }
        self.bypass(gone);
    }

    fn freeze(&self, gone: usize) {
        loop {
            let next = self.next[gone].get();
            if next.is_frozen() || self.next[gone].swing(next, next.frozen()) {
                return;
            }
        }
    }

    fn bypass(&self, gone: usize) {
        let mut from = None;
        loop {
            let word = from.map_or(&self.head, |chunk: usize| &self.next[chunk]);
            let named = word.get();
            if named.is_frozen() {
                from = None;
                continue;
            }
            let Some(at) = chunk(named) else { return };
            if at > gone {
                return;
            }
            let next = self.next[at].get();
            if !next.is_frozen() {
                from = Some(at);
            } else if !word.swing(named, next.thawed()) {
                from = None;
            }
        }
    }

    /// The chunks that are linked.
    fn chunks(&self) -> Vec<usize> {
        let mut found = Vec::new();
        let mut next = self.head.get();
        while let Some(at) = chunk(next.thawed()) {
            found.push(at);
            next = self.next[at].get();
        }
        found
    }
}

#[test]
fn neighbours_that_leave_at_once_are_both_gone() {
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        loom::model(move || {
            let chain = ChunkList::new();
            let theirs = chain.clone();
            let thread = thread::spawn(move || theirs.retire(one, 9));
            chain.retire(other, 9);
            thread.join().unwrap();
            let left: Vec<_> = (0..CHUNKS).filter(|s| ![one, other].contains(s)).collect();
            assert_eq!(chain.chunks(), left);
        });
    }
}

#[test]
fn whoever_helps_leaves_nothing_that_leads_on_to_what_is_gone() {
    loom::model(|| {
        let chain = ChunkList::new();
        let theirs = chain.clone();
        let thread = thread::spawn(move || theirs.retire(1, 9));
        chain.freeze(1);
        chain.bypass(1);
        assert_eq!(chain.chunks(), [0, 2, 3]);
        thread.join().unwrap();
        assert_eq!(chain.chunks(), [0, 2, 3]);
    });
}

#[test]
fn what_one_left_half_done_another_finishes() {
    loom::model(|| {
        let chain = ChunkList::new();
        let theirs = chain.clone();
        let thread = thread::spawn(move || theirs.retire(1, 1));
        chain.retire(2, 9);
        thread.join().unwrap();
        chain.retire(1, 9);
        assert_eq!(chain.chunks(), [0, 3]);
    });
}
