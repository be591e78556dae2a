//! Deaths in the pipe: sending, receiving, and what the other side then sees.

use crate::case::{FREE_CELLS, Play, assert_bystander_goes_on_after, curtain, turned};
use crate::common::{Ledger, Letter, PROMPTLY, Slate, briefly, linger, promptly};
use procession_engine::Deadline;
use procession_engine::channel::{End, pipe};
use procession_engine::error::{GetError, PutError};

const VICTIM: usize = 0;
const STAGE: usize = 1;
const EACH: usize = 1200;

fn patiently() -> Deadline {
    Deadline::after(5 * PROMPTLY)
}

struct Line {
    near: Option<End>,
    far: Option<End>,
    ledger: Ledger,
    next: [usize; 2],
    size: usize,
    armed: bool,
}

impl Line {
    fn new(slate: Slate, size: usize, armed: bool) -> Line {
        let (near, far) = pipe(true).expect("a pipe");
        let ledger = Ledger::on(slate, FREE_CELLS + 16, 2, EACH);
        Line {
            near: Some(near),
            far: Some(far),
            ledger,
            next: [0; 2],
            size,
            armed,
        }
    }

    /// Keeps one end, and asks for its descriptor if that is part of the play: it is a process's own.
    fn keep(&mut self, side: usize) {
        let (kept, other) = match side {
            VICTIM => (&self.far, &mut self.near),
            _ => (&self.near, &mut self.far),
        };
        *other = None;
        if let (true, Some(kept)) = (self.armed, kept) {
            kept.fileno().expect("a descriptor");
        }
    }

    fn send(&mut self, writer: usize, deadline: Deadline) -> Result<(), PutError> {
        let end = if writer == VICTIM {
            &self.far
        } else {
            &self.near
        };
        let letter = Letter::new(writer, self.next[writer], self.size);
        self.ledger.begin(letter);
        end.as_ref()
            .expect("open")
            .send(&[&letter.bytes()], deadline)?;
        self.ledger.sent(letter);
        self.next[writer] += 1;
        Ok(())
    }

    fn recv(&self, reader: usize, deadline: Deadline) -> Result<Letter, GetError> {
        let end = if reader == VICTIM {
            &self.far
        } else {
            &self.near
        };
        let message = end.as_ref().expect("open").recv(deadline)?;
        Ok(self.ledger.received(message.bytes()))
    }
}

/// The victim alone has the far end, and sends.
pub struct Sending {
    line: Line,
    letters: usize,
}

impl Sending {
    pub fn small(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 40, false),
            letters: 400,
        }
    }

    pub fn large(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 100_000, false),
            letters: 12,
        }
    }

    pub fn armed(slate: Slate) -> Sending {
        Sending {
            line: Line::new(slate, 40, true),
            letters: 40,
        }
    }
}

impl Play for Sending {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        self.line.keep(VICTIM);
        for _ in 0..self.letters {
            self.line
                .send(VICTIM, patiently())
                .expect("the bystander receives");
        }
    }

    fn bystander(&mut self, _: Slate) {
        self.line.keep(STAGE);
        loop {
            match self.line.recv(STAGE, patiently()) {
                Ok(_) => {}
                Err(GetError::Closed) => return,
                Err(error) => panic!("neither a letter nor the end: {error}"),
            }
        }
    }

    fn survive(&mut self, _: Slate) {
        self.line.keep(STAGE);
        let limit = promptly();
        loop {
            match self.line.recv(STAGE, limit) {
                Ok(_) => {}
                Err(GetError::Closed) => break,
                Err(error) => panic!("neither a letter nor the end: {error}"),
            }
        }
        let near = self.line.near.as_ref().expect("open");
        assert!(
            near.poll(Deadline::NOW).expect("no signal"),
            "the end is something to receive"
        );
    }

    fn verify(&mut self, _: Slate) {
        let missing = self.line.ledger.missing();
        assert!(missing.is_empty(), "lost: {missing:?}");
    }
}

/// The victim alone has the far end, and receives.
pub struct Receiving {
    line: Line,
    letters: usize,
}

impl Receiving {
    pub fn small(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 40, false),
            letters: 400,
        }
    }

    pub fn large(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 100_000, false),
            letters: 12,
        }
    }

    pub fn armed(slate: Slate) -> Receiving {
        Receiving {
            line: Line::new(slate, 40, true),
            letters: 40,
        }
    }
}

impl Play for Receiving {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        self.line.keep(VICTIM);
        for _ in 0..self.letters {
            self.line
                .recv(VICTIM, patiently())
                .expect("the bystander sends");
        }
    }

    fn bystander(&mut self, _: Slate) {
        self.line.keep(STAGE);
        loop {
            if self.line.armed {
                // So that the victim finds nothing left now and then.
                linger();
            }
            match self.line.send(STAGE, patiently()) {
                Ok(()) => {}
                Err(PutError::Closed) => return,
                Err(error) => panic!("neither room nor the end: {error}"),
            }
            if self.line.next[STAGE] == EACH {
                return;
            }
        }
    }

    fn survive(&mut self, _: Slate) {
        self.line.keep(STAGE);
        let near = self.line.near.as_ref().expect("open");
        let limit = promptly();
        while !matches!(near.send(&[b"to nobody"], limit), Err(PutError::Closed)) {
            assert!(
                !limit.is_past(),
                "nobody has the other end, and sending does not say so"
            );
        }
    }
}

/// Both ends are open everywhere: several processes use them, and one dies.
pub struct Sharing {
    line: Line,
}

impl Sharing {
    pub fn new(slate: Slate) -> Sharing {
        Sharing {
            line: Line::new(slate, 40, false),
        }
    }
}

impl Play for Sharing {
    const BYSTANDER: bool = true;

    fn victim(&mut self, _: Slate) {
        for _ in 0..20 {
            self.line.send(VICTIM, patiently()).expect("room");
            self.line.recv(VICTIM, patiently()).expect("the answer");
        }
    }

    fn bystander(&mut self, slate: Slate) {
        while !curtain(slate) {
            match self.line.recv(STAGE, briefly()) {
                Ok(letter) => {
                    assert_eq!(letter.writer, VICTIM, "it came to the wrong end");
                    self.line.send(STAGE, patiently()).expect("room");
                    turned(slate);
                }
                Err(GetError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn survive(&mut self, slate: Slate) {
        let limit = promptly();
        self.line.next[VICTIM] = EACH / 2;
        assert_bystander_goes_on_after(slate, || {
            (0..6).for_each(|_| self.line.send(VICTIM, limit).expect("room"));
        });
    }

    fn verify(&mut self, _: Slate) {
        while self.line.recv(VICTIM, Deadline::NOW).is_ok() {}
        while self.line.recv(STAGE, Deadline::NOW).is_ok() {}
        let missing = self.line.ledger.missing();
        assert!(missing.len() <= 1, "lost: {missing:?}");
    }
}
