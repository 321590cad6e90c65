//! Further files of a configuration: `include:` names them, with `*` in the last part of a path.

use super::fault::{Fault, Faults};
use super::kept::Sources;
use super::node::{Node, parse};
use super::read::read;
use super::read_file;
use super::sections::{mapping, unknown_keys};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keys of an included file.
const INCLUDED_KEYS: [&str; 2] = ["targets", "checks"];

/// Reads the files of `include:`, in the order of the list, those of a pattern in the order of their names.
pub(super) fn included(
    root: &mut Node,
    base: &Path,
    sources: &Arc<Sources>,
    faults: &mut Faults,
) -> Vec<Node> {
    let Some(entry) = root.take("include") else { return Vec::new() };
    let patterns: Vec<String> = read(&entry.value, "include", faults).unwrap_or_default();
    let mut nodes = Vec::new();
    for pattern in patterns {
        let paths = match matching_files(base, &pattern) {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("could not list {pattern}: {error}");
                faults.push(Fault::new(entry.value.place(), "include", message));
                continue;
            }
        };
        for path in paths {
            let Some(text) = read_file(&path, faults) else { continue };
            let Some(mut node) = parse(&path.display().to_string(), &text, faults) else { continue };
            node.resolve(sources);
            if mapping(&node, "", faults).is_some() {
                unknown_keys(&node, &INCLUDED_KEYS, faults);
                nodes.push(node);
            }
        }
    }
    nodes
}

/// A path, or a pattern with `*` in its last part. A pattern may match nothing, a path has to exist.
fn matching_files(base: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let full = base.join(pattern);
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((head, tail)) = name.split_once('*') else { return Ok(vec![full]) };
    let folder = full.parent().unwrap_or(base);
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let fits = name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail);
        if fits && !name.starts_with('.') {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}
