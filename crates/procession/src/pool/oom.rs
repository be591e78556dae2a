//! Whether the kernel kills for want of memory.

/// How many processes of this machine it has killed so; `None` where it does not tell.
pub(super) fn kills() -> Option<u64> {
    count(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

fn count(vmstat: &str) -> Option<u64> {
    let mut lines = vmstat.lines();
    lines
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .parse()
        .ok()
}

/// What to say about a SIGKILL that did not come from here.
pub(super) fn hint(before: Option<u64>, now: Option<u64>) -> &'static str {
    match (before, now) {
        (Some(before), Some(now)) if now > before => {
            "; the kernel has killed for want of memory meanwhile: try fewer workers or smaller tasks"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_the_others() {
        let vmstat = "nr_free_pages 5\noom_kill 17\noom_kill_disable 3\n";
        assert_eq!(count(vmstat), Some(17));
        assert_eq!(count("nr_free_pages 5\n"), None);
    }

    #[test]
    fn only_a_kill_that_came_in_between_is_hinted_at() {
        assert!(hint(Some(1), Some(2)).contains("memory"));
        for (before, now) in [(Some(2), Some(2)), (None, Some(2)), (Some(2), None)] {
            assert_eq!(hint(before, now), "");
        }
    }
}
