//! Reads addresses, and reports invalid ones before any request.

use std::collections::HashSet;

use ureq::http::Uri;

/// One address per line. Blank lines and comments are skipped.
///
/// A comment starts with a `#` at the start of a line or after a space; elsewhere `#` starts a fragment.
pub fn parse_list(text: &str) -> impl Iterator<Item = String> + '_ {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(|line| without_comment(line).trim())
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
}

fn without_comment(line: &str) -> &str {
    let starts_comment = |&(at, _): &(usize, &str)| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace)
    };
    match line.match_indices('#').find(starts_comment) {
        Some((at, _)) => &line[..at],
        None => line,
    }
}

/// The addresses in order, without duplicates.
pub fn without_repeats(addresses: Vec<String>) -> Vec<String> {
    let mut met = HashSet::new();
    addresses
        .into_iter()
        .filter(|address| met.insert(address.clone()))
        .collect()
}

/// Returns the address with `***` for its password, also if it lacks its scheme.
pub fn hide_password(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', ':', '@']) => {
            format!("{scheme}://{}", without_password(rest, &['/', '?', '#']))
        }
        _ => without_password(address, &['/', '?', '#']),
    }
}

/// Returns the text with `***` for the password of each address in it.
pub fn hide_passwords_in(text: &str) -> String {
    let mut parts = text.split("//");
    let mut hidden = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        hidden += "//";
        hidden += &without_password(part, &['/', '?', '#', ' ', '\'', '"']);
    }
    hidden
}

/// Replaces the password in `user:password@host`, up to one of `ends`. The last `@` ends the password.
fn without_password(text: &str, ends: &[char]) -> String {
    let (authority, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    let named = authority
        .rsplit_once('@')
        .and_then(|(user_info, host)| Some((user_info.split_once(':')?.0, host)));
    match named {
        Some((user, host)) => format!("{user}:***@{host}{rest}"),
        None => text.to_owned(),
    }
}

/// Returns what is wrong with the address, or `None` if it can be requested.
pub fn rejection(address: &str) -> Option<String> {
    if address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some("contains a space or a control character".into());
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Some("no scheme: put http:// or https:// in front".into());
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Some(format!("scheme '{scheme}' is neither http nor https"));
    }
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return Some("no host".into());
    }
    match address.parse::<Uri>() {
        Err(error) => Some(error.to_string()),
        Ok(uri) => port_complaint(&uri),
    }
}

fn port_complaint(uri: &Uri) -> Option<String> {
    let authority = uri.authority()?.as_str();
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, after)| after);
    let (_, port) = host_and_port.rsplit_once(':')?;
    if port.ends_with(']') {
        return None;
    }
    match port.parse::<u16>() {
        Ok(0) => Some("port 0 can't be connected to".into()),
        Ok(_) => None,
        Err(_) => Some(format!("port '{port}' is not a number from 1 to 65535")),
    }
}
