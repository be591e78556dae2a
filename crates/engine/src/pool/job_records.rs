//! Which records hold tasks of a job.
//!
//! The records of a job form a ring, in the order in which they got their tasks, and the table has one of each ring. So
//! the records of a job are found without a look at the others, and a record that is filled or freed in the midst of its
//! job's costs no look into the table.

use crate::id_map::IdMap;

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    job: u64,
    before: u32,
    after: u32,
    /// It is the one in the table.
    known: bool,
}

/// The rings.
#[derive(Debug)]
pub(super) struct JobRecords {
    links: Vec<Link>,
    /// A record of each job that has any.
    known: IdMap<u64, u32>,
    /// The record that was added last, if it is still there.
    last: Option<u32>,
}

impl JobRecords {
    pub(super) fn new(capacity: u32) -> JobRecords {
        JobRecords {
            links: vec![Link::default(); capacity as usize],
            known: IdMap::default(),
            last: None,
        }
    }

    fn link(&mut self, number: u32) -> &mut Link {
        &mut self.links[number as usize]
    }

    /// A record has got a task of a job.
    pub(super) fn add(&mut self, job: u64, number: u32) {
        let of_last = self.last.filter(|&last| self.link(last).job == job);
        self.last = Some(number);
        let before = match of_last {
            Some(last) => last,
            None => {
                let known = *self.known.entry(job).or_insert(number);
                if known == number {
                    *self.link(number) = Link {
                        job,
                        before: number,
                        after: number,
                        known: true,
                    };
                    return;
                }
                self.link(known).before
            }
        };
        let after = std::mem::replace(&mut self.link(before).after, number);
        self.link(after).before = number;
        *self.link(number) = Link {
            job,
            before,
            after,
            known: false,
        };
    }

    /// A record has a task no more.
    pub(super) fn remove(&mut self, number: u32) {
        let Link {
            job,
            before,
            after,
            known,
        } = *self.link(number);
        self.last = self.last.filter(|&last| last != number);
        self.link(before).after = after;
        self.link(after).before = before;
        if known && before == number {
            self.known.remove(&job);
        } else if known {
            // The newest: it is likely to be there the longest.
            self.known.insert(job, before);
            self.link(before).known = true;
        }
    }

    /// The records of a job, by the age of their tasks but for where it begins.
    pub(super) fn of(&self, job: u64) -> Vec<u32> {
        let Some(&first) = self.known.get(&job) else {
            return Vec::new();
        };
        let after = |number: &u32| Some(self.links[*number as usize].after);
        let rest = std::iter::successors(after(&first), after).take_while(|&at| at != first);
        std::iter::once(first).chain(rest).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn sorted(records: &JobRecords, job: u64) -> Vec<u32> {
        let mut of_job = records.of(job);
        of_job.sort_unstable();
        of_job
    }

    #[test]
    fn records_are_found_by_their_job() {
        let mut records = JobRecords::new(8);
        for (job, number) in [(1, 7), (1, 6), (2, 5), (1, 4), (3, 3)] {
            records.add(job, number);
        }
        assert_eq!(sorted(&records, 1), [4, 6, 7]);
        assert_eq!(records.of(2), [5]);
        records.remove(7);
        assert_eq!(sorted(&records, 1), [4, 6]);
        records.remove(3);
        assert!(records.of(3).is_empty());
        records.add(1, 3);
        records.add(2, 7);
        records.remove(6);
        records.remove(4);
        assert_eq!(records.of(1), [3]);
        assert_eq!(sorted(&records, 2), [5, 7]);
    }

    #[test]
    fn the_table_forgets_jobs_without_records() {
        let mut records = JobRecords::new(4);
        for round in 0..100 {
            for number in 0..4 {
                records.add(round, number);
            }
            for number in [2, 0, 3, 1] {
                records.remove(number);
            }
        }
        assert!(records.known.is_empty() && records.last.is_none());
    }
}
