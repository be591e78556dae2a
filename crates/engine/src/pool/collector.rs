//! The results of one job: which have arrived, which may be taken, and whether the job is complete.

use std::collections::VecDeque;

/// In which order results are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In the order of the tasks.
    Tasks,
    /// In the order of completion.
    Completion,
}

/// The results of the tasks of a job, until they are taken. A task is known by its index.
///
/// It does not wait and does not lock: whoever owns it does.
#[derive(Debug)]
pub struct Collector<T> {
    arrived: Arrived<T>,
    /// The number of tasks; `None` while it is unknown.
    expected: Option<usize>,
    count: usize,
    first_failure: Option<usize>,
    /// It has ended before all tasks did; later results do not count.
    is_cut: bool,
    /// The result that follows after so many others.
    last: Option<(usize, T)>,
    taken: usize,
}

#[derive(Debug)]
enum Arrived<T> {
    InOrder {
        /// The task whose result is taken next.
        next: usize,
        /// Its result. It lies here, so that a job of one task allocates nothing.
        first: Option<T>,
        /// The results of the tasks after it.
        later: VecDeque<Option<T>>,
    },
    ByCompletion(VecDeque<(usize, T)>),
}

impl<T> Collector<T> {
    /// Creates one for so many tasks; `None` while their number is unknown.
    pub fn new(order: Order, expected: Option<usize>) -> Collector<T> {
        let arrived = match order {
            Order::Tasks => Arrived::InOrder {
                next: 0,
                first: None,
                later: VecDeque::with_capacity(expected.map_or(0, |tasks| tasks.saturating_sub(1))),
            },
            Order::Completion => Arrived::ByCompletion(VecDeque::new()),
        };
        Collector {
            arrived,
            expected,
            count: 0,
            first_failure: None,
            is_cut: false,
            last: None,
            taken: 0,
        }
    }

    /// Adds the result of a task. Returns false, and drops it, if the job was cut or has no such task; and, in the
    /// order of the tasks, if the task has a result. In the order of completion, the caller adds one result per task.
    pub fn put(&mut self, index: usize, result: T, failed: bool) -> bool {
        if self.is_cut || self.expected.is_some_and(|tasks| index >= tasks) {
            return false;
        }
        match &mut self.arrived {
            Arrived::ByCompletion(queue) => queue.push_back((index, result)),
            Arrived::InOrder { next, first, later } => {
                let place = match index.checked_sub(*next) {
                    None => return false,
                    Some(0) => first,
                    Some(behind) => {
                        if later.len() < behind {
                            later.resize_with(behind, || None);
                        }
                        &mut later[behind - 1]
                    }
                };
                if place.is_some() {
                    return false;
                }
                *place = Some(result);
            }
        }
        self.note(index, failed);
        self.add_last();
        true
    }

    fn note(&mut self, index: usize, failed: bool) {
        self.count += 1;
        if failed {
            self.first_failure.get_or_insert(index);
        }
    }

    /// Adds the failure that ends the results after those of `index` tasks. In the order of completion, it waits for
    /// these. Returns false, and drops it, if the job was cut.
    pub fn put_last(&mut self, index: usize, failure: T) -> bool {
        if self.is_cut {
            return false;
        }
        if let Arrived::InOrder { .. } = self.arrived {
            return self.put(index, failure, true);
        }
        self.last = Some((index, failure));
        self.add_last();
        true
    }

    fn add_last(&mut self) {
        let count = self.count;
        if let Some((index, failure)) = self.last.take_if(|(index, _)| *index == count)
            && let Arrived::ByCompletion(queue) = &mut self.arrived
        {
            queue.push_back((index, failure));
            self.note(index, true);
        }
    }

    /// Adds a failure behind the results that have arrived, and cuts the job: no other result follows. Returns false if
    /// it is cut already.
    pub fn cut_by(&mut self, failure: T) -> bool {
        let is_first = !self.is_cut;
        if is_first {
            self.append(failure);
            self.count += 1;
            self.cut();
        }
        is_first
    }

    /// Replaces the results that are missing by one failure. Returns false if the job is complete.
    pub fn fail_rest(&mut self, failure: impl FnOnce() -> T) -> bool {
        let is_open = !self.is_complete();
        if is_open {
            self.append(failure());
            self.count = self.expected.unwrap_or(self.count + 1);
            self.cut();
        }
        is_open
    }

    fn cut(&mut self) {
        self.is_cut = true;
        self.last = None;
        self.expected = Some(self.count);
        self.skip_gaps();
    }

    fn append(&mut self, failure: T) {
        let index = match &mut self.arrived {
            Arrived::ByCompletion(queue) => {
                queue.push_back((self.count, failure));
                self.count
            }
            Arrived::InOrder { next, later, .. } => {
                later.push_back(Some(failure));
                *next + later.len()
            }
        };
        self.first_failure.get_or_insert(index);
    }

    /// In a job that was cut, gaps are not filled any more.
    fn skip_gaps(&mut self) {
        if let Arrived::InOrder { next, first, later } = &mut self.arrived {
            while first.is_none()
                && let Some(result) = later.pop_front()
            {
                *first = result;
                *next += 1;
            }
        }
    }

    /// Says how many tasks there are.
    pub fn expect(&mut self, tasks: usize) {
        if !self.is_cut {
            self.expected = Some(tasks);
        }
    }

    /// Whether all results have arrived.
    pub fn is_complete(&self) -> bool {
        self.expected == Some(self.count)
    }

    /// Whether it ended before all tasks did.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The number of tasks, if it is known.
    pub fn expected(&self) -> Option<usize> {
        self.expected
    }

    /// How many results have arrived.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many results were taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether a result can be taken.
    pub fn has_next(&self) -> bool {
        match &self.arrived {
            Arrived::InOrder { first, .. } => first.is_some(),
            Arrived::ByCompletion(queue) => !queue.is_empty(),
        }
    }

    /// Takes the next result, with the index of its task.
    pub fn take(&mut self) -> Option<(usize, T)> {
        let taken = match &mut self.arrived {
            Arrived::ByCompletion(queue) => queue.pop_front()?,
            Arrived::InOrder { next, first, later } => {
                let result = first.take()?;
                *first = later.pop_front().flatten();
                *next += 1;
                (*next - 1, result)
            }
        };
        self.taken += 1;
        if self.is_cut {
            self.skip_gaps();
        }
        Some(taken)
    }

    /// Takes the result of the first task that failed, if one did.
    pub fn take_failure(&mut self) -> Option<T> {
        let failed = self.first_failure.take()?;
        let Arrived::InOrder { next, first, later } = &mut self.arrived else {
            return None;
        };
        match failed.checked_sub(*next)? {
            0 => first.take(),
            behind => later.get_mut(behind - 1)?.take(),
        }
    }

    /// The results that have not been taken.
    pub fn results_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let (first, later, queue) = match &mut self.arrived {
            Arrived::InOrder { first, later, .. } => (Some(first), Some(later), None),
            Arrived::ByCompletion(queue) => (None, None, Some(queue)),
        };
        let in_order = first.into_iter().chain(later.into_iter().flatten());
        let queue = queue.into_iter().flatten().map(|(_, result)| result);
        in_order.flatten().chain(queue)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn taken(collector: &mut Collector<char>) -> String {
        let results = std::iter::from_fn(|| collector.take());
        results.map(|(_, result)| result).collect()
    }

    fn collector(order: Order, expected: Option<usize>) -> Collector<char> {
        Collector::new(order, expected)
    }

    #[test]
    fn results_are_taken_in_the_order_of_their_tasks() {
        let mut results = collector(Order::Tasks, Some(3));
        assert!(results.put(2, 'c', false));
        assert!(!results.has_next());
        assert!(results.put(0, 'a', false));
        assert_eq!(results.take(), Some((0, 'a')));
        assert_eq!(results.take(), None, "the next one has not arrived");
        assert!(results.put(1, 'b', false));
        assert!(results.is_complete());
        assert_eq!(taken(&mut results), "bc");
        assert_eq!(results.taken(), 3);
    }

    #[test]
    fn results_are_taken_in_the_order_of_completion() {
        let mut results = collector(Order::Completion, None);
        results.put(2, 'c', false);
        results.put(0, 'a', false);
        assert_eq!(results.take(), Some((2, 'c')));
        results.expect(2);
        assert!(results.is_complete());
        assert_eq!(results.take(), Some((0, 'a')));
    }

    #[test]
    fn a_task_has_one_result() {
        let mut results = collector(Order::Tasks, Some(2));
        assert!(results.put(0, 'a', false));
        assert!(!results.put(0, 'x', false), "it has one");
        assert!(!results.put(2, 'x', false), "there is no such task");
        results.take();
        assert!(!results.put(0, 'x', false), "it was taken");
        assert_eq!(results.count(), 1);
    }

    #[test]
    fn the_failure_that_came_first_counts() {
        let mut results = collector(Order::Tasks, Some(3));
        results.put(2, 'c', true);
        results.put(0, 'a', true);
        results.put(1, 'b', false);
        assert_eq!(results.take_failure(), Some('c'));
    }

    #[test]
    fn a_job_that_is_cut_ends_after_what_has_arrived() {
        for (order, expected) in [(Order::Tasks, "bdx"), (Order::Completion, "dbx")] {
            let mut results = collector(order, Some(5));
            results.put(3, 'd', false);
            results.put(1, 'b', false);
            assert!(results.cut_by('x'));
            assert!(!results.cut_by('y') && !results.put(0, 'a', false));
            assert!(results.is_complete());
            assert_eq!(taken(&mut results), expected);
        }
    }

    #[test]
    fn what_is_missing_fails_together() {
        let mut results = collector(Order::Tasks, Some(4));
        results.put(2, 'c', false);
        assert!(results.fail_rest(|| 'x'));
        assert_eq!(results.count(), 4);
        assert_eq!(results.take_failure(), Some('x'));

        let mut results = collector(Order::Tasks, Some(3));
        results.put(1, 'b', true);
        assert!(results.fail_rest(|| 'x'));
        assert_eq!(results.take_failure(), Some('b'), "it failed before");

        let mut results = collector(Order::Tasks, None);
        results.put(1, 'b', false);
        assert!(results.fail_rest(|| 'x'));
        results.expect(7);
        assert!(results.is_complete());
        assert_eq!(taken(&mut results), "bx");
        assert!(!results.fail_rest(|| 'y'));
    }

    #[test]
    fn a_failure_of_the_arguments_follows_the_results_before_it() {
        let mut results = collector(Order::Completion, None);
        results.put(1, 'b', false);
        results.put_last(2, 'x');
        results.expect(3);
        assert_eq!(taken(&mut results), "b");
        results.put(0, 'a', false);
        assert!(results.is_complete());
        assert_eq!(taken(&mut results), "ax");
    }

    #[test]
    fn a_failure_of_the_arguments_does_not_open_a_job_again_that_was_cut() {
        for order in [Order::Tasks, Order::Completion] {
            let mut results = collector(order, None);
            results.put(0, 'a', false);
            assert!(results.fail_rest(|| 'x'));
            assert!(!results.put_last(2, 'y'));
            results.expect(3);
            assert!(results.is_complete());
            assert_eq!(taken(&mut results), "ax");
        }
        let mut results = collector(Order::Completion, None);
        results.put_last(1, 'y');
        assert!(results.cut_by('x'));
        assert!(!results.put(0, 'a', false) && results.is_complete());
        assert_eq!(taken(&mut results), "x");
    }

    #[test]
    fn results_can_be_changed_before_they_are_taken() {
        for order in [Order::Tasks, Order::Completion] {
            let mut results = collector(order, None);
            results.put(0, 'a', false);
            results.put(1, 'b', false);
            let all = results.results_mut();
            all.for_each(|result| *result = result.to_ascii_uppercase());
            assert_eq!(taken(&mut results), "AB");
        }
    }
}
