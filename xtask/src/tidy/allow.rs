//! Written exceptions that may only shrink.
//!
//! A line of the list: `path[::function] | rule | number | reason`. The number is the size, or the
//! count of occurrences, that stands in the code; a line that allows more than there is, is a breach too.

use std::collections::BTreeMap;

use crate::findings::Finding;

/// Where the list stands.
pub(super) const PATH: &str = "xtask/tidy-allow.txt";

#[derive(Debug)]
struct Entry {
    key: String,
    rule: String,
    number: u64,
    line: usize,
}

/// Takes out the findings that the list allows, and adds one for each line that allows too much.
pub(super) fn apply(list: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let mut left = Vec::new();
    let entries = parse(list, &mut left);
    let mut groups: BTreeMap<(String, &'static str), Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        groups.entry((finding.key.clone(), finding.rule)).or_default().push(finding);
    }
    let mut used = vec![false; entries.len()];
    for ((key, rule), group) in groups {
        let sum: u64 = group.iter().map(|finding| finding.weight).sum();
        let entry = entries.iter().position(|entry| entry.key == key && entry.rule == rule);
        let Some(index) = entry else {
            left.extend(group);
            continue;
        };
        used[index] = true;
        let Entry { number, line, .. } = entries[index];
        if number < sum {
            left.extend(group);
        } else if number > sum {
            let message = format!("{key} has {sum}, {number} is allowed: write {sum}");
            left.push(Finding::at("allow-list", PATH, line, message));
        }
    }
    for (entry, _) in entries.iter().zip(used).filter(|(_, used)| !used) {
        let message = format!("{} keeps {}: take the line out", entry.key, entry.rule);
        left.push(Finding::at("allow-list", PATH, entry.line, message));
    }
    left
}

fn parse(list: &str, findings: &mut Vec<Finding>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let parsed = match cells.as_slice() {
            [key, rule, number, reason] if !reason.is_empty() => {
                number.parse().ok().map(|number| Entry {
                    key: (*key).to_owned(),
                    rule: (*rule).to_owned(),
                    number,
                    line: index + 1,
                })
            }
            _ => None,
        };
        match parsed {
            Some(entry) => entries.push(entry),
            None => {
                let message = "write `path[::function] | rule | number | reason`";
                findings.push(Finding::at("allow-list", PATH, index + 1, message));
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(lines: u64) -> Vec<Finding> {
        vec![Finding {
            rule: "function-length",
            key: "a.rs::f".to_owned(),
            line: 3,
            weight: lines,
            message: String::new(),
        }]
    }

    fn rules(list: &str, findings: Vec<Finding>) -> Vec<&'static str> {
        apply(list, findings).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn the_exact_number_is_allowed() {
        assert!(
            rules("# why\n\na.rs::f | function-length | 80 | one table\n", long(80)).is_empty()
        );
    }

    #[test]
    fn more_than_allowed_is_a_breach() {
        assert_eq!(
            rules("a.rs::f | function-length | 79 | one table", long(80)),
            ["function-length"]
        );
    }

    #[test]
    fn the_list_may_only_shrink() {
        assert_eq!(rules("a.rs::f | function-length | 81 | one table", long(80)), ["allow-list"]);
        assert_eq!(rules("a.rs::f | function-length | 80 | one table", Vec::new()), ["allow-list"]);
    }

    #[test]
    fn occurrences_add_up() {
        let twice =
            vec![Finding::at("unsafe", "a.rs", 1, ""), Finding::at("unsafe", "a.rs", 9, "")];
        assert!(rules("a.rs | unsafe | 2 | a system call", twice.clone()).is_empty());
        assert_eq!(rules("a.rs | unsafe | 1 | a system call", twice).len(), 2);
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert_eq!(rules("a.rs | unsafe | 2 |", Vec::new()), ["allow-list"]);
        assert_eq!(rules("a.rs | unsafe | many | reason", Vec::new()), ["allow-list"]);
    }
}
