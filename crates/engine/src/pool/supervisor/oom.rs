//! Whether a SIGKILL that nobody here sent may have come from the kernel, for lack of memory.

/// What the kernel says about processes that it killed for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomHint {
    /// It does not say.
    Unknown,
    /// It has killed none since the last question.
    NoKill,
    /// It has killed some.
    Killed,
}

/// The kernel's count of out-of-memory kills at the last question.
#[derive(Debug)]
pub struct OomKills(Option<u64>);

impl OomKills {
    /// Remembers the count of now.
    pub fn now() -> OomKills {
        OomKills(count())
    }

    /// Compares the count with that of the last question.
    pub fn hint(&mut self) -> OomHint {
        let now = count();
        compare(std::mem::replace(&mut self.0, now), now)
    }
}

fn compare(before: Option<u64>, now: Option<u64>) -> OomHint {
    match (before, now) {
        (_, None) => OomHint::Unknown,
        (Some(before), Some(now)) if now > before => OomHint::Killed,
        _ => OomHint::NoKill,
    }
}

fn count() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn parse(vmstat: &str) -> Option<u64> {
    let mut lines = vmstat.lines();
    let count = lines.find_map(|line| line.strip_prefix("oom_kill "))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_others() {
        let vmstat = "nr_free_pages 5\noom_kill 17\noom_kill_disable 3\n";
        assert_eq!(parse(vmstat), Some(17));
        assert_eq!(parse("nr_free_pages 5\n"), None);
    }

    #[test]
    fn only_a_kill_that_came_in_between_is_hinted_at() {
        assert_eq!(compare(Some(1), Some(2)), OomHint::Killed);
        assert_eq!(compare(Some(2), Some(2)), OomHint::NoKill);
        assert_eq!(compare(None, Some(2)), OomHint::NoKill);
        assert_eq!(compare(Some(2), None), OomHint::Unknown);
    }
}
