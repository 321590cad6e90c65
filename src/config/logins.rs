//! Which targets have to name a user and a database: those that are asked with SQL. A store such as Redis needs neither.

use super::node::Node;
use crate::checks;

/// The checks of the configuration, as they are written.
pub(super) struct Logins<'a> {
    pub(super) checks: &'a [(String, &'a Node)],
}

impl Logins<'_> {
    /// Whether checks ask a target, and none of them with SQL. One that nobody asks is taken for a database.
    pub(super) fn is_store(&self, name: &str, target: &Node) -> bool {
        let (mut sql, mut stores) = (false, false);
        for (_, item) in self.checks {
            let Some([entry]) = item.entries() else { continue };
            let Some(kind) = checks::ALL.iter().find(|kind| Some(kind.word) == entry.key.text()) else {
                continue;
            };
            if kind.target && names(&entry.value, name, target) {
                sql |= kind.sql;
                stores |= !kind.sql;
            }
        }
        stores && !sql
    }
}

/// Whether a check names this target, or chooses it by its labels.
fn names(check: &Node, name: &str, target: &Node) -> bool {
    let is = |node: &Node| node.text() == Some(name);
    let one = ["target", "publisher"].iter().filter_map(|key| check.get(key)).any(is);
    let many = check.get("targets");
    let listed = many.and_then(Node::items).is_some_and(|items| items.iter().any(is));
    let wanted = many.and_then(|many| many.get("match")).and_then(Node::entries);
    let chosen = wanted.is_some_and(|wanted| {
        wanted.iter().all(|label| {
            let own = target.get("labels").zip(label.key.text()).and_then(|(labels, name)| labels.get(name));
            // What only AWS knows may be the same.
            own.and_then(Node::value).zip(label.value.value()).is_none_or(|(own, wanted)| own == wanted)
                && own.is_some()
        })
    });
    one || listed || chosen
}
